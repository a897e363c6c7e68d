#pragma once

#include "formats/fp8.cuh"

// FP8 with f32 scales, for whatever a scale covers: a tensor, a row, 128x128 weights or 1x128
// activations. x ~ e4m3 * scale.
namespace switchyard::formats {

inline constexpr int kFp8Block = 128;

/// max|x| / 448, so that the largest value becomes the largest code; 1 where that is zero.
SWITCHYARD_BOTH constexpr float fp8_scale(float max) {
  const float scale = max / kE4m3Max;
  return scale > 0 ? scale : 1.0F;
}

SWITCHYARD_BOTH constexpr uint8 encode_fp8(float value, float scale) {
  return encode_e4m3(value / scale);
}

}  // namespace switchyard::formats
