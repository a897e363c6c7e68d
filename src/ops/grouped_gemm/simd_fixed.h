#pragma once

#include "ops/grouped_gemm/simd_decode.h"

// y = x . w^T for 4-bit weights without decoding them to f32 (AVX2): a byte shuffle turns 32 codes
// into small integers, 16-bit multiply-adds sum them against fixed-point activations exactly, and
// only block sums become floats, times the scale of the weights' and of the activations' block.
//
// At one token this is what lets one Zen 3 core decode as fast as it can read memory. 64 columns
// take about 22 vector instructions; 8 FMAs with a decode to f32 take about 60.
namespace switchyard::grouped_gemm {
namespace {

constexpr std::int64_t kPrefetchBytes = 2048;

/// Weight scales of 128 columns, one float per 16, in units of kUnit.
struct E4m3Per16 {
  static constexpr float kUnit = 0x1p-9F;
  static __m256 load(const MatrixView&, const std::uint8_t* scales, std::int64_t c) {
    return e4m3_scales_512(scales + c / 16);
  }
};

struct E8m0Per32 {
  static constexpr float kUnit = 1;
  static __m256 load(const MatrixView&, const std::uint8_t* scales, std::int64_t c) {
    std::int32_t bytes;
    __builtin_memcpy(&bytes, scales + c / 32, 4);
    const __m128i order = _mm_setr_epi8(0, 0, 1, 1, 2, 2, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256i b = _mm256_cvtepu8_epi32(_mm_shuffle_epi8(_mm_cvtsi32_si128(bytes), order));
    const __m256i nan = _mm256_cmpeq_epi32(b, _mm256_set1_epi32(255));
    // Code 0 is 2^-127, a subnormal.
    const __m256i value = _mm256_max_epi32(_mm256_slli_epi32(b, 23), _mm256_set1_epi32(0x00400000));
    return _mm256_castsi256_ps(_mm256_or_si256(value, nan));
  }
};

struct AnyScale {
  static constexpr float kUnit = 1;
  static __m256 load(const MatrixView& w, const std::uint8_t* scales, std::int64_t c) {
    if (!scales) return _mm256_set1_ps(1);
    if (w.scale_cols % kPad == 0) {
      return _mm256_set1_ps(scale_value(w.scale, scales, c / w.scale_cols));
    }
    alignas(32) float values[8];
    for (int i = 0; i < 8; ++i) {
      const std::int64_t group = (c + 16 * i) / w.scale_cols;
      values[i] = group < w.groups ? scale_value(w.scale, scales, group) : 0;
    }
    return _mm256_load_ps(values);
  }
};

/// Codes 2 * e2m1, or q - 8, or q to subtract zero points from.
struct Fp4 {
  static constexpr bool kZeros = false;
  static constexpr float kUnit = 0x1p-9F;  // the table is doubled, and codes sit 8 bits up
  static __m128i table() {
    return _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
  }
};

struct Int4 {
  static constexpr bool kZeros = false;
  static constexpr float kUnit = 0x1p-8F;
  static __m128i table() {
    return _mm_setr_epi8(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
  }
};

struct Int4Zeros {
  static constexpr bool kZeros = true;
  static constexpr float kUnit = 0x1p-8F;
  static __m128i table() {
    return _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  }
};

/// Zero points of the 64 columns at c, one byte beside each of the 32 bytes of codes.
inline __m256i zero_bytes(const MatrixView& w, const std::uint8_t* zeros, std::int64_t c) {
  long long block[4];
  for (int i = 0; i < 4; ++i) {
    const std::int64_t group = (c + 16 * i) / w.scale_cols;
    block[i] = group < w.groups ? zeros[group] * 0x0101010101010101LL : 0;
  }
  return _mm256_setr_epi64x(block[0], block[1], block[2], block[3]);
}

/// 64 codes as four vectors of 16-bit integers times 256, in the order of FixedRows.
template <class Codes>
inline void unpack(const MatrixView& w, const std::uint8_t* from, const std::uint8_t* zeros,
                   std::int64_t c, __m256i (&weights)[4]) {
  const __m256i table = _mm256_broadcastsi128_si256(Codes::table());
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i high = _mm256_set1_epi16(static_cast<short>(0xff00));
  const __m256i packed = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  __m256i even = _mm256_shuffle_epi8(table, _mm256_and_si256(packed, nibble));
  __m256i odd = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(packed, 4), nibble));
  if constexpr (Codes::kZeros) {
    const __m256i zero = zero_bytes(w, zeros, c);
    even = _mm256_sub_epi8(even, zero);
    odd = _mm256_sub_epi8(odd, zero);
  }
  weights[0] = _mm256_slli_epi16(even, 8);
  weights[1] = _mm256_and_si256(even, high);
  weights[2] = _mm256_slli_epi16(odd, 8);
  weights[3] = _mm256_and_si256(odd, high);
}

/// Sums of 8 columns each; their largest is 15 * 256 * 2^15 * 8 < 2^31.
inline __m256 dot64(const __m256i (&weights)[4], const std::int16_t* x) {
  const __m256i* v = reinterpret_cast<const __m256i*>(x);
  const __m256i a = _mm256_madd_epi16(weights[0], _mm256_loadu_si256(v));
  const __m256i b = _mm256_madd_epi16(weights[1], _mm256_loadu_si256(v + 1));
  const __m256i c = _mm256_madd_epi16(weights[2], _mm256_loadu_si256(v + 2));
  const __m256i d = _mm256_madd_epi16(weights[3], _mm256_loadu_si256(v + 3));
  return _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d)));
}

struct FixedToken {
  const std::int16_t* codes;
  const float* scales;
};

/// 128 columns at c of one row against kTokens tokens.
template <class Codes, class Scale, int kTokens>
inline void fixed_columns(const MatrixView& w, const std::uint8_t* codes,
                          const std::uint8_t* scales, const std::uint8_t* zeros, std::int64_t c,
                          const FixedToken* x, std::int64_t xc, __m256 (&sums)[kTokens]) {
  const __m256i first = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
  const __m256i second = _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7);
  const __m256 weight_scale = Scale::load(w, scales, c);
  __m256 scale[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    scale[t] = _mm256_mul_ps(weight_scale, _mm256_loadu_ps(x[t].scales + xc / 16));
  }
  for (int half = 0; half < 2; ++half) {
    __m256i weights[4];
    unpack<Codes>(w, codes + c / 2 + 32 * half, zeros, c + 64 * half, weights);
    for (int t = 0; t < kTokens; ++t) {
      sums[t] =
          _mm256_fmadd_ps(dot64(weights, x[t].codes + xc + 64 * half),
                          _mm256_permutevar8x32_ps(scale[t], half == 0 ? first : second), sums[t]);
    }
  }
}

/// The last columns of a row, from padded copies: nothing is read beyond the row.
template <class Codes, int kTokens>
void fixed_tail(const MatrixView& w, const std::uint8_t* codes, const std::uint8_t* scales,
                const std::uint8_t* zeros, std::int64_t c, const FixedToken* x,
                __m256 (&sums)[kTokens]) {
  std::uint8_t padded_codes[kPad / 2] = {};
  __builtin_memcpy(padded_codes, codes + c / 2, static_cast<std::size_t>(w.in - c) / 2);
  std::uint8_t padded_scales[kPad / 16 * 4] = {};
  std::uint8_t padded_zeros[kPad / 16] = {};
  for (std::int64_t block = 0; block * 16 < w.in - c; ++block) {
    const std::int64_t group = (c + 16 * block) / w.scale_cols;
    const float scale = scales ? scale_value(w.scale, scales, group) : 1;
    __builtin_memcpy(padded_scales + 4 * block, &scale, sizeof(scale));
    if (zeros) padded_zeros[block] = zeros[group];
  }
  MatrixView tail = w;
  tail.scale = DType::f32;
  tail.scale_cols = 16;
  tail.groups = kPad / 16;
  fixed_columns<Codes, AnyScale, kTokens>(tail, padded_codes, padded_scales, padded_zeros, 0, x, c,
                                          sums);
}

struct Columns {
  std::int64_t first, end;
};

/// Rows [row, row + rows), some columns of them, added to y unless these are the first columns.
template <class Codes, class Scale, int kTokens>
__attribute__((noinline)) void fixed_tile(const MatrixView& w, std::int64_t row, std::int64_t rows,
                                          Columns columns, const FixedToken* x, float* y,
                                          std::int64_t y_stride) {
  constexpr float kUnit = Codes::kUnit * Scale::kUnit;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::uint8_t* codes = w.elements + (row + r) * w.row_bytes;
    const std::uint8_t* scales = w.scales ? w.scales + (row + r) * w.scale_row_bytes : nullptr;
    const std::uint8_t* zeros = w.zeros ? w.zeros + (row + r) * w.groups : nullptr;
    __m256 sums[kTokens];
    for (__m256& s : sums) s = _mm256_setzero_ps();
    std::int64_t c = columns.first;
    for (; c + kPad <= columns.end; c += kPad) {
      _mm_prefetch(reinterpret_cast<const char*>(codes + c / 2 + kPrefetchBytes), _MM_HINT_T0);
      fixed_columns<Codes, Scale, kTokens>(w, codes, scales, zeros, c, x, c, sums);
    }
    for (int t = 0; t < kTokens; ++t) {
      float& to = y[t * y_stride + r];
      to = (columns.first == 0 ? 0.0F : to) + sum(sums[t]) * kUnit;
    }
    if (c == columns.end) continue;
    // Sums of its own: the loop's stay in registers only if no call sees their address.
    __m256 last[kTokens];
    for (__m256& s : last) s = _mm256_setzero_ps();
    fixed_tail<Codes, kTokens>(w, codes, scales, zeros, c, x, last);
    for (int t = 0; t < kTokens; ++t) y[t * y_stride + r] += sum(last[t]) * Codes::kUnit;
  }
}

/// Rows that pass all tokens before the next ones: their codes stay in the first cache level.
constexpr std::int64_t kFixedRows = 8;

template <class Codes, class Scale>
void fixed_rows(const MatrixView& w, const FixedRows& x, const Block& block, std::int64_t r,
                Columns columns) {
  const std::int64_t rows = block.rows - r < kFixedRows ? block.rows - r : kFixedRows;
  const std::int64_t row = block.first_row + r, stride = block.y_stride;
  for (std::int64_t t = 0; t < block.tokens; t += 4) {
    const std::int64_t tokens = block.tokens - t < 4 ? block.tokens - t : 4;
    FixedToken token[4];
    for (std::int64_t i = 0; i < tokens; ++i) {
      const std::int64_t from = block.index ? block.index[t + i] : t + i;
      token[i] = {x.codes + from * x.stride, x.scales + from * (x.stride / 16)};
    }
    float* y = block.y + t * stride + r;
    switch (tokens) {
      case 1:
        fixed_tile<Codes, Scale, 1>(w, row, rows, columns, token, y, stride);
        break;
      case 2:
        fixed_tile<Codes, Scale, 2>(w, row, rows, columns, token, y, stride);
        break;
      case 3:
        fixed_tile<Codes, Scale, 3>(w, row, rows, columns, token, y, stride);
        break;
      default:
        fixed_tile<Codes, Scale, 4>(w, row, rows, columns, token, y, stride);
        break;
    }
  }
}

/// Columns whose activations stay in the first cache level while a block of rows passes: the same
/// for any number of tokens, so that a token's bits do not depend on its neighbours.
constexpr std::int64_t kFixedColumns = 2048;

template <class Codes, class Scale>
void fixed_block(const MatrixView& w, const FixedRows& x, const Block& block) {
  for (std::int64_t c = 0; c < w.in; c += kFixedColumns) {
    const std::int64_t end = w.in - c < kFixedColumns ? w.in : c + kFixedColumns;
    for (std::int64_t r = 0; r < block.rows; r += kFixedRows) {
      fixed_rows<Codes, Scale>(w, x, block, r, {c, end});
    }
  }
}

void multiply_fixed(const MatrixView& w, const FixedRows& x, const Block& block) {
  if (w.element == DType::f4_e2m1) {
    if (w.scale == DType::f8_e4m3 && w.scale_cols == 16) {
      fixed_block<Fp4, E4m3Per16>(w, x, block);
    } else if (w.scale == DType::f8_e8m0 && w.scale_cols == 32) {
      fixed_block<Fp4, E8m0Per32>(w, x, block);
    } else {
      fixed_block<Fp4, AnyScale>(w, x, block);
    }
  } else if (w.zeros) {
    fixed_block<Int4Zeros, AnyScale>(w, x, block);
  } else {
    fixed_block<Int4, AnyScale>(w, x, block);
  }
}

}  // namespace
}  // namespace switchyard::grouped_gemm
