#pragma once

#include "formats/minifloat.cuh"

// E2M1: 0 0.5 1 1.5 2 3 4 6 and a sign; neither infinity nor NaN. Saturates; NaN becomes +6, as
// PTX's cvt.rn.satfinite.e2m1x2 has it. Two values share a byte, the even one in the low nibble.
namespace switchyard::formats {

inline constexpr Minifloat kE2m1{
    .exponent_bits = 2, .mantissa_bits = 1, .largest = 7, .overflow = 7, .nan = 7};
inline constexpr float kE2m1Max = 6;

SWITCHYARD_BOTH constexpr uint8 encode_e2m1(float value) {
  return static_cast<uint8>(encode_f32<kE2m1>(value));
}

SWITCHYARD_BOTH constexpr uint8 encode_e2m1(double value) {
  return static_cast<uint8>(encode<kE2m1>(value));
}

SWITCHYARD_BOTH constexpr float decode_e2m1(uint8 code) {
  return decode<kE2m1>(code);
}

/// Value `index` of a packed array, 0..15.
SWITCHYARD_BOTH constexpr uint8 nibble(const uint8* packed, int64 index) {
  return static_cast<uint8>((packed[index / 2] >> (index % 2 * 4)) & 0xf);
}

SWITCHYARD_BOTH constexpr uint8 pack_nibbles(uint8 low, uint8 high) {
  return static_cast<uint8>(low | (high << 4));
}

}  // namespace switchyard::formats
