#pragma once

#include "ops/grouped_gemm/simd.h"
#include "ops/grouped_gemm/simd_vector.h"

// Weights to f32: exact bit manipulation of the codes, then scales. One overload per element type
// decodes kLanes elements at once; a row's tail goes through the same code on a padded copy.
namespace switchyard::grouped_gemm {
namespace {

template <DType>
F32 elements(const std::uint8_t* from);

template <>
inline F32 elements<DType::f32>(const std::uint8_t* from) {
  return load<F32>(from);
}

template <>
inline F32 elements<DType::bf16>(const std::uint8_t* from) {
  return bit_cast<F32>(load_words(from) << 16);
}

template <>
inline F32 elements<DType::f16>(const std::uint8_t* from) {
  const U32 h = load_words(from);
  // The exponent moves from bias 15 to 127 by a multiplication, which also makes subnormals right.
  const F32 magnitude = bit_cast<F32>((h & 0x7fff) << 13) * 0x1p112F;
  const U32 special = bit_cast<U32>((h & 0x7c00) == 0x7c00) & 0x7f800000;
  return bit_cast<F32>(bit_cast<U32>(magnitude) | special | ((h & 0x8000) << 16));
}

template <>
inline F32 elements<DType::f8_e4m3>(const std::uint8_t* from) {
  const U32 b = load_bytes(from);
  const F32 magnitude = bit_cast<F32>((b & 0x7f) << 20) * 0x1p120F;
  const U32 nan = bit_cast<U32>((b & 0x7f) == 0x7f) & 0x7fc00000;
  return bit_cast<F32>(bit_cast<U32>(magnitude) | nan | ((b & 0x80) << 24));
}

inline U32 nibbles(const std::uint8_t* from) {
  std::uint32_t packed = 0;
  __builtin_memcpy(&packed, from, kLanes / 2);
  U32 shift;
  for (int i = 0; i < kLanes; ++i) shift[i] = static_cast<std::uint32_t>(4 * i);
  return ((U32{} + packed) >> shift) & 15;
}

template <>
inline F32 elements<DType::u4>(const std::uint8_t* from) {
  return __builtin_convertvector(bit_cast<I32>(nibbles(from)), F32);
}

template <>
inline F32 elements<DType::f4_e2m1>(const std::uint8_t* from) {
  const U32 code = nibbles(from);
#if defined(__AVX2__)
  const __m256 table = _mm256_setr_ps(0, 0.5F, 1, 1.5F, 2, 3, 4, 6);
  const F32 magnitude = _mm256_permutevar8x32_ps(table, bit_cast<__m256i>(code));  // low 3 bits
#else
  const U32 exponent = (code >> 1) & 3, mantissa = code & 1;
  const U32 halves = exponent == 0 ? mantissa : (mantissa + 2) << (exponent - 1);
  const F32 magnitude = __builtin_convertvector(bit_cast<I32>(halves), F32) * 0.5F;
#endif
  return bit_cast<F32>(bit_cast<U32>(magnitude) | ((code & 8) << 28));
}

/// e4m3 times 2^9, which is always an integer. No arithmetic on subnormal f32, which costs many
/// CPUs 100 cycles: block scales, unlike weights, are often that small.
inline F32 e4m3_scales_512(const std::uint8_t* from) {
#if defined(__AVX2__)
  const __m256i b = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  const __m256i low = _mm256_and_si256(b, _mm256_set1_epi32(0x7f));
  // max(exponent, 1) - 1: codes below 8 have no leading 1.
  const __m256i shift = _mm256_subs_epu16(_mm256_srli_epi32(low, 3), _mm256_set1_epi32(1));
  const __m256i mantissa = _mm256_sub_epi32(low, _mm256_slli_epi32(shift, 3));
  const __m256i units = _mm256_sign_epi32(_mm256_sllv_epi32(mantissa, shift), b);
  const __m256i nan = _mm256_cmpeq_epi32(low, _mm256_set1_epi32(0x7f));
  return _mm256_or_ps(_mm256_cvtepi32_ps(units), _mm256_castsi256_ps(nan));
#else
  F32 values;
  for (int i = 0; i < kLanes; ++i) {
    const int low = from[i] & 0x7f, shift = low < 8 ? 0 : (low >> 3) - 1;
    const auto units = static_cast<float>((low - 8 * shift) << shift);
    values[i] = low == 0x7f ? __builtin_nanf("") : (from[i] & 0x80) != 0 ? -units : units;
  }
  return values;
#endif
}

constexpr std::int64_t byte_of(DType type, std::int64_t column) {
  switch (type) {
    case DType::f32:
      return column * 4;
    case DType::bf16:
    case DType::f16:
      return column * 2;
    case DType::f8_e4m3:
      return column;
    default:
      return column / 2;
  }
}

template <DType kType>
void decode_elements(const std::uint8_t* row, std::int64_t first, std::int64_t count, float* to) {
  const std::uint8_t* from = row + byte_of(kType, first);
  std::int64_t c = 0;
  for (; c + kLanes <= count; c += kLanes) {
    store(to + c, elements<kType>(from + byte_of(kType, c)));
  }
  if (c < count) {
    std::uint8_t padded[kLanes * 4] = {};
    // `count` is even for packed types: Tensor refuses an odd last extent.
    __builtin_memcpy(padded, from + byte_of(kType, c),
                     static_cast<std::size_t>(byte_of(kType, count - c)));
    float last[kLanes];
    store(last, elements<kType>(padded));
    for (int i = 0; c < count; ++c, ++i) to[c] = last[i];
  }
}

/// Scale number i at `scales`.
inline float scale_value(DType type, const std::uint8_t* scales, std::int64_t i) {
  std::uint32_t bits = 0;
  switch (type) {
    case DType::bf16:
      __builtin_memcpy(&bits, scales + 2 * i, 2);
      return bit_cast<float>(bits << 16);
    case DType::f16: {
      __builtin_memcpy(&bits, scales + 2 * i, 2);
      const float magnitude = bit_cast<float>((bits & 0x7fff) << 13) * 0x1p112F;
      const std::uint32_t special = (bits & 0x7c00) == 0x7c00 ? 0x7f800000 : 0;
      return bit_cast<float>(bit_cast<std::uint32_t>(magnitude) | special |
                             ((bits & 0x8000) << 16));
    }
    case DType::f8_e4m3: {
      bits = scales[i];
      if ((bits & 0x7f) == 0x7f) return __builtin_nanf("");
      const float magnitude = bit_cast<float>((bits & 0x7f) << 20) * 0x1p120F;
      return (bits & 0x80) != 0 ? -magnitude : magnitude;
    }
    case DType::f8_e8m0:
      bits = scales[i];
      if (bits == 255) return __builtin_nanf("");
      return bit_cast<float>(bits == 0 ? 0x00400000U : bits << 23);
    default:
      __builtin_memcpy(&bits, scales + 4 * i, 4);
      return bit_cast<float>(bits);
  }
}

struct RowScales {
  DType type;
  const std::uint8_t* scales;  // null = 1
  const std::uint8_t* zeros;   // null = `zero`
  float zero;

  float scale(std::int64_t group) const { return scales ? scale_value(type, scales, group) : 1; }
  float zero_point(std::int64_t group) const { return zeros ? zeros[group] : zero; }
};

inline RowScales row_scales(const MatrixView& w, std::int64_t row) {
  return {.type = w.scale,
          .scales = w.scales ? w.scales + row / w.scale_rows * w.scale_row_bytes : nullptr,
          .zeros = w.zeros ? w.zeros + row * w.groups : nullptr,
          .zero = w.element == DType::u4 ? 8.0F : 0.0F};
}

constexpr std::int64_t kPanelColumns = 512;

/// Scales [first, first + count) of a row as f32; count <= kPanelColumns + 1.
inline void decode_scales(DType type, const std::uint8_t* scales, std::int64_t first,
                          std::int64_t count, float* to) {
  std::int64_t i = 0;
  if (type == DType::f8_e4m3) {
    for (; i + kLanes <= count; i += kLanes)
      store(to + i, e4m3_scales_512(scales + first + i) * 0x1p-9F);
  }
  for (; i < count; ++i) to[i] = scale_value(type, scales, first + i);
}

/// to[c] = (to[c] - zero) * scale, group by group. Rounds as (element - zero) * scale in f32.
inline void apply_scales(const MatrixView& w, std::int64_t row, std::int64_t first,
                         std::int64_t count, float* to) {
  if (!w.scales && w.element != DType::u4) return;
  const RowScales scales = row_scales(w, row);
  if (w.group_of_column) {
    for (std::int64_t c = 0; c < count; ++c) {
      const std::int64_t group = w.group_of_column[first + c];
      to[c] = (to[c] - scales.zero_point(group)) * scales.scale(group);
    }
    return;
  }
  const std::int64_t first_group = first / w.scale_cols;
  const std::int64_t groups = (first + count - 1) / w.scale_cols - first_group + 1;
  float values[kPanelColumns + 1];
  if (w.scales) decode_scales(w.scale, scales.scales, first_group, groups, values);
  if (w.scale_cols == 16 && first % 16 == 0 && count % 16 == 0 && w.scales && !w.zeros) {
    for (std::int64_t g = 0; g < groups; ++g) {
      for (std::int64_t c = 16 * g; c < 16 * g + 16; c += kLanes) {
        store(to + c, (load<F32>(to + c) - scales.zero) * values[g]);
      }
    }
    return;
  }
  std::int64_t end = (first_group + 1) * w.scale_cols - first;
  for (std::int64_t g = 0, c = 0; g < groups; ++g, end += w.scale_cols) {
    if (end > count) end = count;
    const float scale = w.scales ? values[g] : 1.0F;
    const float zero = scales.zero_point(first_group + g);
    for (; c + kLanes <= end; c += kLanes) {
      store(to + c, (load<F32>(to + c) - zero) * scale);
    }
    for (; c < end; ++c) to[c] = (to[c] - zero) * scale;
  }
}

/// count <= kPanelColumns
void decode(const MatrixView& w, std::int64_t row, std::int64_t first, std::int64_t count,
            float* to) {
  const std::uint8_t* from = w.elements + row * w.row_bytes;
  switch (w.element) {
    case DType::f32:
      decode_elements<DType::f32>(from, first, count, to);
      break;
    case DType::bf16:
      decode_elements<DType::bf16>(from, first, count, to);
      break;
    case DType::f16:
      decode_elements<DType::f16>(from, first, count, to);
      break;
    case DType::f8_e4m3:
      decode_elements<DType::f8_e4m3>(from, first, count, to);
      break;
    case DType::u4:
      decode_elements<DType::u4>(from, first, count, to);
      break;
    default:
      decode_elements<DType::f4_e2m1>(from, first, count, to);
      break;
  }
  apply_scales(w, row, first, count, to);
  for (std::int64_t c = count; c % 16 != 0; ++c) to[c] = 0;
}

}  // namespace
}  // namespace switchyard::grouped_gemm
