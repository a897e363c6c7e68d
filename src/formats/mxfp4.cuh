#pragma once

#include "formats/e8m0.cuh"
#include "formats/fp4.cuh"

// MXFP4: blocks of 32 E2M1 values with an E8M0 scale, max|x| / 6 rounded up to a power of two.
// Elements are encode_e2m1(x * e8m0_multiplier(scale)): they never saturate.
namespace switchyard::formats {

inline constexpr int kMxfp4Block = 32;

SWITCHYARD_BOTH constexpr uint8 mxfp4_scale(float block_max) {
  return encode_e8m0_up(block_max / kE2m1Max);
}

}  // namespace switchyard::formats
