#pragma once

#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

// Vectors of the widest kind that this translation unit may use. Everything here and in the other
// simd_*.h has internal linkage: each instruction set gets its own copy.
namespace switchyard::grouped_gemm {
namespace {

#if defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

using F32 = float __attribute__((vector_size(kLanes * 4)));
using I32 = std::int32_t __attribute__((vector_size(kLanes * 4)));
using U32 = std::uint32_t __attribute__((vector_size(kLanes * 4)));
using U16 = std::uint16_t __attribute__((vector_size(kLanes * 2)));
using U8 = std::uint8_t __attribute__((vector_size(kLanes)));

template <class V>
inline V load(const void* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof(V));
  return v;
}

inline void store(float* to, F32 v) {
  __builtin_memcpy(to, &v, sizeof(v));
}

template <class To, class From>
inline To bit_cast(From v) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &v, sizeof(to));
  return to;
}

inline F32 splat(float v) {
  return F32{} + v;
}

inline F32 multiply_add(F32 a, F32 b, F32 c) {
#if defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

/// The lanes' sum, always in the same order.
inline float sum(F32 v) {
  float s[kLanes];
  __builtin_memcpy(s, &v, sizeof(v));
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) s[i] += s[i + width];
  }
  return s[0];
}

}  // namespace
}  // namespace switchyard::grouped_gemm
