#pragma once

#include "device/types.cuh"

// Rows that wait for their sum are fp16 numbers times a power of two, which a bound on the row's
// values gives: no value overflows, and one that is not below 2^-29 of the bound keeps 11 bits.

namespace switchyard::device {

/// Exponents as f32 has them: the largest that fits `bound`, the bits of an f32 that is not
/// negative, and its inverse. Bounds that are not finite have none.
SWITCHYARD_BOTH constexpr uint32 row_exponent(uint32 bound) {
  const uint32 exponent = 268 - (bound >> 23);
  return exponent < 253 ? exponent : 253;
}

constexpr uint32 kNoBound = 0x7f800000;

/// What values of a row are multiplied by; NaN without a bound.
SWITCHYARD_BOTH constexpr float row_scale(uint32 bound) {
  return bits_as<float>(bound < kNoBound ? row_exponent(bound) << 23 : ~0u);
}
/// And divided.
SWITCHYARD_BOTH constexpr float row_unit(uint32 bound) {
  return bits_as<float>(bound < kNoBound ? (254 - row_exponent(bound)) << 23 : ~0u);
}

}  // namespace switchyard::device
