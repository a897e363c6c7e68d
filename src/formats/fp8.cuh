#pragma once

#include "formats/minifloat.cuh"

// OCP 8-bit floats, saturating: infinities become the largest value with their sign.
// E4M3FN has no infinity and NaN only at 0x7f and 0xff; E5M2 is IEEE-like and decodes infinities.
namespace switchyard::formats {

inline constexpr Minifloat kE4m3{
    .exponent_bits = 4, .mantissa_bits = 3, .largest = 0x7e, .overflow = 0x7e, .nan = 0x7f};
inline constexpr Minifloat kE5m2{
    .exponent_bits = 5, .mantissa_bits = 2, .largest = 0x7b, .overflow = 0x7b, .nan = 0x7f};
inline constexpr float kE4m3Max = 448;
inline constexpr float kE5m2Max = 57344;

SWITCHYARD_BOTH constexpr uint8 encode_e4m3(float value) {
  return static_cast<uint8>(encode_f32<kE4m3>(value));
}

SWITCHYARD_BOTH constexpr uint8 encode_e4m3(double value) {
  return static_cast<uint8>(encode<kE4m3>(value));
}

SWITCHYARD_BOTH constexpr float decode_e4m3(uint8 code) {
  return decode<kE4m3>(code);
}

SWITCHYARD_BOTH constexpr uint8 encode_e5m2(float value) {
  return static_cast<uint8>(encode_f32<kE5m2>(value));
}

SWITCHYARD_BOTH constexpr uint8 encode_e5m2(double value) {
  return static_cast<uint8>(encode<kE5m2>(value));
}

SWITCHYARD_BOTH constexpr float decode_e5m2(uint8 code) {
  constexpr Minifloat kWithInfinity{.exponent_bits = 5,
                                    .mantissa_bits = 2,
                                    .largest = kE5m2.largest,
                                    .overflow = 0x7c,
                                    .nan = kE5m2.nan};
  return decode<kWithInfinity>(code);
}

}  // namespace switchyard::formats
