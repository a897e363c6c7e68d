#pragma once

#include "formats/minifloat.cuh"

// IEEE binary16. Beyond 65504 (from 65520 on) lies infinity.
namespace switchyard::formats {

inline constexpr Minifloat kFp16{
    .exponent_bits = 5, .mantissa_bits = 10, .largest = 0x7bff, .overflow = 0x7c00, .nan = 0x7fff};

SWITCHYARD_BOTH constexpr uint16 encode_fp16(float value) {
  return static_cast<uint16>(encode_f32<kFp16>(value));
}

SWITCHYARD_BOTH constexpr uint16 encode_fp16(double value) {
  return static_cast<uint16>(encode<kFp16>(value));
}

SWITCHYARD_BOTH constexpr float decode_fp16(uint16 code) {
  return decode<kFp16>(code);
}

}  // namespace switchyard::formats
