#pragma once

#include "device/types.cuh"

// INT4 weights are stored as 0..15 with a zero point: 8 ("offset binary") unless one is given.
namespace switchyard::formats {

inline constexpr int kInt4Zero = 8;

/// Two's-complement nibble <-> offset binary: the same bit flips both ways.
SWITCHYARD_BOTH constexpr uint8 flip_int4_sign(uint8 code) {
  return static_cast<uint8>((code ^ 8) & 0xf);
}

/// Nearest code of value / scale + zero, ties to even before the zero point is added; saturates.
SWITCHYARD_BOTH constexpr uint8 encode_int4(float value, float scale, int zero = kInt4Zero) {
  const float steps = value / scale;
  const float clamped = steps < -16 ? -16.0F : (steps > 16 ? 16.0F : steps);
  constexpr float kToInteger = 0x1.8p23F;  // adding it leaves no fraction bits
  const int code = static_cast<int>((clamped + kToInteger) - kToInteger) + zero;
  return static_cast<uint8>(code < 0 ? 0 : (code > 15 ? 15 : code));
}

}  // namespace switchyard::formats
