#pragma once

#include "device/types.cuh"

// E8M0 block scales: 2^(code - 127), no sign, no zero; 255 is NaN. Encoders take scales, which are
// never negative: the sign is ignored. Zero becomes code 0; beyond 2^127 they saturate to 254.
namespace switchyard::formats {

SWITCHYARD_BOTH constexpr float decode_e8m0(uint8 code) {
  if (code == 255) return bits_as<float>(0x7fc00000U);
  return bits_as<float>(code == 0 ? 0x00400000U : static_cast<uint32>(code) << 23);
}

/// The smallest power of two that is not below `scale`: what MX quantisers store.
SWITCHYARD_BOTH constexpr uint8 encode_e8m0_up(float scale) {
  const uint32 magnitude = bits_as<uint32>(scale) & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return 255;
  if (magnitude <= 0x00400000U) return 0;  // subnormal: up to 2^-127
  const uint32 code = (magnitude + 0x007fffffU) >> 23;
  return static_cast<uint8>(code < 254 ? code : 254);
}

/// The nearest power of two; a tie (1.5 * 2^n) goes to the even code.
SWITCHYARD_BOTH constexpr uint8 encode_e8m0_nearest(float scale) {
  const uint32 magnitude = bits_as<uint32>(scale) & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return 255;
  if (magnitude < 0x00800000U) return magnitude > 0x00600000U ? 1 : 0;
  const uint32 code = (magnitude + 0x003fffffU + ((magnitude >> 23) & 1U)) >> 23;
  return static_cast<uint8>(code < 254 ? code : 254);
}

/// What a quantiser multiplies by: 1 / scale, but 0 for code 0. Engines read code 0 as a scale of
/// zero, so a block that small becomes zeros.
SWITCHYARD_BOTH constexpr float e8m0_multiplier(uint8 code) {
  if (code == 255) return bits_as<float>(0x7fc00000U);
  if (code == 0) return 0;
  return bits_as<float>(code == 254 ? 0x00400000U : static_cast<uint32>(254 - code) << 23);
}

}  // namespace switchyard::formats
