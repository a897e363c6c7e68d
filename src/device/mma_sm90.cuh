#pragma once

#include "device/ptx.cuh"

// Hopper's warpgroup products of tiles with rows of 128 bytes.

namespace switchyard::device {

/// 128B-swizzled, K-major operand [9.7.15.5]: rows of 128 bytes, groups of 8 rows 1024 bytes apart.
__device__ inline uint64 operand(uint32 address) {
  return (static_cast<uint64>(address & 0x3FFFF) >> 4) | (static_cast<uint64>(1) << 16) |
         (static_cast<uint64>(1024 >> 4) << 32) | (static_cast<uint64>(1) << 62);
}

/// The widest instruction that kN (a multiple of 8) columns begin with.
constexpr int widest(int columns) {
  if (columns == 96 || (columns > 128 && columns <= 176)) return columns;  // a multiple of 16
  int n = 256;
  while (n > columns) n /= 2;
  return n;
}

/// acc [64, kN] += a [64, 16] b [kN, 16]^T;  A is a descriptor or a thread's four registers.
template <int kN, Half kHalf, class A>
__device__ inline void wgmma(float* acc, A a, uint64 b) {
  constexpr int n = widest(kN);
  ptx::Wgmma<n, kHalf>::run(acc, a, b);
  if constexpr (kN > n) wgmma<kN - n, kHalf>(acc + n / 2, a, b + n * 128 / 16);
}

}  // namespace switchyard::device
