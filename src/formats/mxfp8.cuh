#pragma once

#include "formats/e8m0.cuh"
#include "formats/fp8.cuh"

// MXFP8: blocks of 32 E4M3 values with an E8M0 scale, max|x| / 448 rounded up to a power of two.
// Elements are encode_e4m3(x * e8m0_multiplier(scale)): they never saturate.
namespace switchyard::formats {

inline constexpr int kMxfp8Block = 32;

SWITCHYARD_BOTH constexpr uint8 mxfp8_scale(float block_max) {
  return encode_e8m0_up(block_max / kE4m3Max);
}

}  // namespace switchyard::formats
