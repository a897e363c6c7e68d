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

/// kLanes bytes or 16-bit words as 32-bit numbers. GCC 12 makes __builtin_convertvector from bytes
/// one scalar insertion a lane.
inline U32 load_bytes(const void* from) {
#if defined(__AVX2__)
  return bit_cast<U32>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(from))));
#else
  return __builtin_convertvector(load<U8>(from), U32);
#endif
}

inline U32 load_words(const void* from) {
#if defined(__AVX2__)
  return bit_cast<U32>(_mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from))));
#else
  return __builtin_convertvector(load<U16>(from), U32);
#endif
}

inline F32 multiply_add(F32 a, F32 b, F32 c) {
#if defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

/// The lanes' sum, always in the same order: pairs of neighbours, then pairs of these, ...
inline float sum(F32 v) {
#if defined(__AVX2__)
  const __m256 pairs = _mm256_hadd_ps(v, v);
  const __m256 quads = _mm256_hadd_ps(pairs, pairs);
  return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(quads), _mm256_extractf128_ps(quads, 1)));
#else
  float s[kLanes];
  __builtin_memcpy(s, &v, sizeof(v));
  for (int width = 1; width < kLanes; width *= 2) {
    for (int i = 0; i < kLanes; i += 2 * width) s[i] += s[i + width];
  }
  return s[0];
#endif
}

/// sum() of four vectors, to the bit.
inline void sum4(const F32 (&v)[4], float (&sums)[4]) {
#if defined(__AVX2__)
  const __m256 quads = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
  _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(quads), _mm256_extractf128_ps(quads, 1)));
#else
  for (int i = 0; i < 4; ++i) sums[i] = sum(v[i]);
#endif
}

}  // namespace
}  // namespace switchyard::grouped_gemm
