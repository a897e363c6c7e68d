#pragma once

#include "formats/minifloat.cuh"

// The upper half of an f32. Overflow is infinity; NaN becomes 0x7fff, as the hardware has it.
namespace switchyard::formats {

inline constexpr Minifloat kBf16{
    .exponent_bits = 8, .mantissa_bits = 7, .largest = 0x7f7f, .overflow = 0x7f80, .nan = 0x7fff};

SWITCHYARD_BOTH constexpr uint16 encode_bf16(double value) {
  return static_cast<uint16>(encode<kBf16>(value));
}

/// The same rounding without branches, which compilers vectorise.
SWITCHYARD_BOTH constexpr uint16 encode_bf16(float value) {
  const uint32 bits = bits_as<uint32>(value);
  const uint32 rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  return static_cast<uint16>((bits & 0x7fffffffU) > 0x7f800000U ? kBf16.nan : rounded);
}

SWITCHYARD_BOTH constexpr float decode_bf16(uint16 code) {
  return bits_as<float>(static_cast<uint32>(code) << 16);
}

}  // namespace switchyard::formats
