#pragma once

#include "ops/grouped_gemm/simd_decode.h"

// y = x . w^T for 4-bit weights without decoding them to f32 (AVX2): a byte shuffle turns 32 codes
// into unsigned bytes q with w = q - zero, byte products with the two halves of fixed-point
// activations are summed exactly within each block of 16, and only these sums become floats:
//
//   block:  sum of w x  =  (-256 sum of q high + sum of q low) - zero (sum of x)     < 2^24
//
// times the scale of the weights' and of the activations' block. At one token 128 weights take 38
// vector operations, 13 to 14 cycles on Zen 3 (docs/cpu.md). 16 FMAs with a decode to f32 take
// about 120 instructions. One file, because one source compiles it, for AVX2 alone.
namespace switchyard::grouped_gemm {
namespace {

/// Weight scales of 128 columns, one float per 16, in the order of FixedPanel, in units of kUnit.
/// unusual(): these are not what load() said.
struct E4m3Per16 {
  static constexpr float kUnit = 0x1p8F;
  __m128i largest = _mm_setzero_si128();  // of the codes

  /// A code without sign moved into f16 is its value times 2^-8, subnormals included.
  __m256 load(const MatrixView&, const std::uint8_t* scales, std::int64_t panel) {
    const __m128i b = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(scales + 8 * panel));
    largest = _mm_max_epu8(largest, b);
    const __m128i order = _mm_setr_epi8(-1, 0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7);
    return _mm256_cvtph_ps(_mm_srli_epi16(_mm_shuffle_epi8(b, order), 1));
  }
  /// Whether there was a NaN or a sign.
  bool unusual() const { return _mm_movemask_epi8(_mm_adds_epu8(largest, _mm_set1_epi8(1))) != 0; }
};

struct E8m0Per32 {
  static constexpr float kUnit = 1;
  __m256 load(const MatrixView&, const std::uint8_t* scales, std::int64_t panel) const {
    std::int32_t bytes;
    __builtin_memcpy(&bytes, scales + 4 * panel, 4);
    const __m128i order = _mm_setr_epi8(0, 2, 0, 2, 1, 3, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256i b = _mm256_cvtepu8_epi32(_mm_shuffle_epi8(_mm_cvtsi32_si128(bytes), order));
    const __m256i nan = _mm256_cmpeq_epi32(b, _mm256_set1_epi32(255));
    // Code 0 is 2^-127, a subnormal.
    const __m256i value = _mm256_max_epi32(_mm256_slli_epi32(b, 23), _mm256_set1_epi32(0x00400000));
    return _mm256_castsi256_ps(_mm256_or_si256(value, nan));
  }
  bool unusual() const { return false; }
};

struct AnyScale {
  static constexpr float kUnit = 1;
  __m256 load(const MatrixView& w, const std::uint8_t* scales, std::int64_t panel) const {
    if (!scales) return _mm256_set1_ps(1);
    const std::int64_t c = panel * kPad;
    if (w.scale_cols % kPad == 0) {
      return _mm256_set1_ps(scale_value(w.scale, scales, c / w.scale_cols));
    }
    alignas(32) float values[8];
    for (int i = 0; i < 8; ++i) {
      const std::int64_t group = (c + 16 * kBlockOfLane[i]) / w.scale_cols;
      values[i] = group < w.groups ? scale_value(w.scale, scales, group) : 0;
    }
    return _mm256_load_ps(values);
  }
  bool unusual() const { return false; }
};

/// Codes of 4 bits as unsigned bytes q and what to subtract: 2 * e2m1 + 12, or q with its zero.
struct Fp4 {
  static constexpr float kUnit = 0.5F;
  static __m128i table() {
    return _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
  }
  static __m256 zero(const MatrixView&, const std::uint8_t*, std::int64_t) {
    return _mm256_set1_ps(12);
  }
};

struct Int4 {
  static constexpr float kUnit = 1;
  static __m128i table() {
    return _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  }
  static __m256 zero(const MatrixView&, const std::uint8_t*, std::int64_t) {
    return _mm256_set1_ps(8);
  }
};

struct Int4Zeros : Int4 {
  static __m256 zero(const MatrixView& w, const std::uint8_t* zeros, std::int64_t panel) {
    alignas(32) float values[8];
    for (int i = 0; i < 8; ++i) {
      const std::int64_t group = (panel * kPad + 16 * kBlockOfLane[i]) / w.scale_cols;
      values[i] = group < w.groups ? zeros[group] : 0;
    }
    return _mm256_load_ps(values);
  }
};

inline __m256i load_codes(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

/// 128 weights, 8 in each 64 bits of a vector: 4 of block b, then 4 of block b + 4.
struct Weights {
  __m256i even[2], odd[2];  // columns; of bytes 0 to 3 and 4 to 7 of the blocks
};

template <class Codes>
inline Weights unpack(const std::uint8_t* from) {
  const __m256i table = _mm256_broadcastsi128_si256(Codes::table());
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i packed[2] = {_mm256_blend_epi32(load_codes(from), load_codes(from + 28), 0xaa),
                             _mm256_blend_epi32(load_codes(from + 4), load_codes(from + 32), 0xaa)};
  Weights w;
  for (int i = 0; i < 2; ++i) {
    const __m256i high = _mm256_srli_epi16(packed[i], 4);
    w.even[i] = _mm256_shuffle_epi8(table, _mm256_and_si256(packed[i], nibble));
    w.odd[i] = _mm256_shuffle_epi8(table, _mm256_and_si256(high, nibble));
  }
  return w;
}

/// 16-bit sums of 8 products of at most 24 * 128 each, two sums a block.
inline __m256i dot_bytes(const Weights& w, const std::int8_t* x) {
  const __m256i first = _mm256_add_epi16(_mm256_maddubs_epi16(w.even[0], load_codes(x)),
                                         _mm256_maddubs_epi16(w.odd[0], load_codes(x + 32)));
  const __m256i second = _mm256_add_epi16(_mm256_maddubs_epi16(w.even[1], load_codes(x + 64)),
                                          _mm256_maddubs_epi16(w.odd[1], load_codes(x + 96)));
  return _mm256_add_epi16(first, second);
}

/// One float a block, in the order of kBlockOfLane.
inline __m256 dot_blocks(const Weights& w, const FixedPanel& x) {
  const __m256i high = dot_bytes(w, x.high), low = dot_bytes(w, x.low);
  return _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_madd_epi16(high, _mm256_set1_epi16(-256)),
                                             _mm256_madd_epi16(low, _mm256_set1_epi16(1))));
}

/// A row of weights.
struct WeightRow {
  const std::uint8_t* codes;
  const std::uint8_t* scales;
  const std::uint8_t* zeros;
};

inline WeightRow weight_row(const MatrixView& w, std::int64_t row) {
  return {.codes = w.elements + row * w.row_bytes,
          .scales = w.scales ? w.scales + row * w.scale_row_bytes : nullptr,
          .zeros = w.zeros ? w.zeros + row * w.groups : nullptr};
}

/// Panel `panel` of 128 columns of a row against that of kTokens tokens.
template <class Codes, class Scale, int kTokens>
inline void fixed_panel(const MatrixView& w, const WeightRow& row, std::int64_t panel,
                        const FixedPanel* const (&x)[kTokens], Scale& scale,
                        __m256 (&sums)[kTokens]) {
  const Weights weights = unpack<Codes>(row.codes + 64 * panel);
  const __m256 weight_scale = scale.load(w, row.scales, panel);
  const __m256 zero = Codes::zero(w, row.zeros, panel);
#pragma GCC unroll 4
  for (int t = 0; t < kTokens; ++t) {
    const __m256 pairs = dot_blocks(weights, *x[t]);
    // Exact: both products and their difference are integers below 2^24.
    const __m256 dot = _mm256_fnmadd_ps(zero, _mm256_loadu_ps(x[t]->sums), pairs);
    const __m256 scales = _mm256_mul_ps(weight_scale, _mm256_loadu_ps(x[t]->scales));
    sums[t] = _mm256_fmadd_ps(dot, scales, sums[t]);
  }
}

/// The last panel of a row, from padded copies: nothing is read beyond the row.
template <class Codes, int kTokens>
void fixed_tail(const MatrixView& w, const WeightRow& row, std::int64_t panel,
                const FixedPanel* const (&x)[kTokens], __m256 (&sums)[kTokens]) {
  const std::int64_t c = panel * kPad;
  std::uint8_t codes[kPad / 2] = {};
  __builtin_memcpy(codes, row.codes + c / 2, static_cast<std::size_t>(w.in - c) / 2);
  float scales[kPad / 16] = {};
  std::uint8_t zeros[kPad / 16] = {};
  for (std::int64_t block = 0; block * 16 < w.in - c; ++block) {
    const std::int64_t group = (c + 16 * block) / w.scale_cols;
    scales[block] = row.scales ? scale_value(w.scale, row.scales, group) : 1;
    if (row.zeros) zeros[block] = row.zeros[group];
  }
  MatrixView tail = w;
  tail.scale = DType::f32;
  tail.scale_cols = 16;
  tail.groups = kPad / 16;
  AnyScale scale;
  fixed_panel<Codes>(tail, {codes, reinterpret_cast<const std::uint8_t*>(scales), zeros}, 0, x,
                     scale, sums);
}

struct Panels {
  std::int64_t first, end;
};

/// Bytes from a load to what is asked for then. Nothing is wrong with asking beyond the end.
constexpr std::int64_t kAhead = 2048;

/// Rows of a block that pass all tokens before the next ones: their codes stay in the first cache
/// level.
constexpr int kFixedRows = 4;

struct RowRange {
  std::int64_t first;
  int count;  // at most kFixedRows
};

template <class Codes, class Scale, int kTokens>
__attribute__((noinline)) void fixed_rows(const MatrixView& w, RowRange rows, Panels panels,
                                          const FixedPanel* const (&x)[kTokens], float* y,
                                          std::int64_t y_stride) {
  Scale scale;
  F32 sums[kTokens][kFixedRows];
  const std::int64_t whole = w.in / kPad < panels.end ? w.in / kPad : panels.end;
  for (int r = 0; r < rows.count; ++r) {
    const WeightRow row = weight_row(w, rows.first + r);
    const FixedPanel* at[kTokens];
    __m256 s[kTokens];
    for (int t = 0; t < kTokens; ++t) {
      at[t] = x[t] + panels.first;
      s[t] = _mm256_setzero_ps();
    }
    for (std::int64_t panel = panels.first; panel < whole; ++panel) {
      __builtin_prefetch(row.codes + 64 * panel + kAhead);
      fixed_panel<Codes>(w, row, panel, at, scale, s);
      for (const FixedPanel*& token : at) ++token;
    }
    for (int t = 0; t < kTokens; ++t) sums[t][r] = s[t];
  }
  for (int r = rows.count; r < kFixedRows; ++r)
    for (int t = 0; t < kTokens; ++t) sums[t][r] = F32{};
  if (scale.unusual()) return fixed_rows<Codes, AnyScale, kTokens>(w, rows, panels, x, y, y_stride);
  for (int t = 0; t < kTokens; ++t) {
    float dots[kFixedRows];
    sum4(sums[t], dots);
    for (int r = 0; r < rows.count; ++r) {
      float& to = y[t * y_stride + r];
      to = (panels.first == 0 ? 0.0F : to) + dots[r] * (Codes::kUnit * Scale::kUnit);
    }
  }
  if (whole == panels.end) return;
  const FixedPanel* at[kTokens];
  for (int t = 0; t < kTokens; ++t) at[t] = x[t] + whole;
  for (int r = 0; r < rows.count; ++r) {
    // Sums of its own: the loop's stay in registers only if no call sees their address.
    __m256 last[kTokens];
    for (__m256& sum : last) sum = _mm256_setzero_ps();
    fixed_tail<Codes>(w, weight_row(w, rows.first + r), whole, at, last);
    for (int t = 0; t < kTokens; ++t) y[t * y_stride + r] += sum(last[t]) * Codes::kUnit;
  }
}

template <class Codes, class Scale>
void fixed_tokens(const MatrixView& w, const FixedRows& x, const Block& block, RowRange rows,
                  Panels panels) {
  const std::int64_t stride = block.y_stride;
  for (std::int64_t t = 0; t < block.tokens; t += 4) {
    const std::int64_t tokens = block.tokens - t < 4 ? block.tokens - t : 4;
    const FixedPanel* token[4] = {};
    for (std::int64_t i = 0; i < tokens; ++i) {
      token[i] = x.data + (block.index ? block.index[t + i] : t + i) * x.stride;
    }
    float* y = block.y + t * stride + (rows.first - block.first_row);
    switch (tokens) {
      case 1:
        fixed_rows<Codes, Scale, 1>(w, rows, panels, {token[0]}, y, stride);
        break;
      case 2:
        fixed_rows<Codes, Scale, 2>(w, rows, panels, {token[0], token[1]}, y, stride);
        break;
      case 3:
        fixed_rows<Codes, Scale, 3>(w, rows, panels, {token[0], token[1], token[2]}, y, stride);
        break;
      default:
        fixed_rows<Codes, Scale, 4>(w, rows, panels, token, y, stride);
        break;
    }
  }
}

/// Panels whose activations stay in the first cache level while a block of rows passes: the same
/// for any number of tokens, so that a token's bits do not depend on its neighbours.
constexpr std::int64_t kFixedPanels = 16;

template <class Codes, class Scale>
void fixed_block(const MatrixView& w, const FixedRows& x, const Block& block) {
  const std::int64_t all = (w.in + kPad - 1) / kPad;
  for (std::int64_t p = 0; p < all; p += kFixedPanels) {
    const Panels panels{p, all - p < kFixedPanels ? all : p + kFixedPanels};
    for (std::int64_t r = 0; r < block.rows; r += kFixedRows) {
      const std::int64_t left = block.rows - r;
      const int count = left < kFixedRows ? static_cast<int>(left) : kFixedRows;
      fixed_tokens<Codes, Scale>(w, x, block, {block.first_row + r, count}, panels);
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
