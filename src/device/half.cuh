#pragma once

#include "device/types.cuh"

// 16-bit floats as kernels carry them: bits in a uint16.

namespace switchyard {

/// Which one the bits are.
enum class Half : int { bf16, fp16 };

/// How the weights of kernels are stored: as the tokens are, or packed (device/fp4.cuh).
enum class Weights : int { half, nvfp4, mxfp4 };

}  // namespace switchyard

#ifdef __CUDACC__
namespace switchyard::device {

template <Half kHalf>
__device__ inline float to_f32(uint16 bits) {
  if constexpr (kHalf == Half::bf16) return __uint_as_float(static_cast<uint32>(bits) << 16);
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

/// Rounds to nearest even.
template <Half kHalf>
__device__ inline uint16 from_f32(float value) {
  uint16 bits;
  if constexpr (kHalf == Half::bf16)
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  else
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

/// Two of them, `low` in the lower half.
template <Half kHalf>
__device__ inline uint32 pack_f32(float low, float high) {
  uint32 bits;
  if constexpr (kHalf == Half::bf16)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

}  // namespace switchyard::device
#endif
