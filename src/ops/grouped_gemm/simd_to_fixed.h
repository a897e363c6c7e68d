#pragma once

#include "ops/grouped_gemm/simd.h"
#include "ops/grouped_gemm/simd_vector.h"

// Activations to 16-bit fixed point (FixedPanel), in plain loops that compilers vectorise.
namespace switchyard::grouped_gemm {
namespace {

/// 2^exponent for -126 <= exponent <= 127.
inline float power_of_two(int exponent) {
  return bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23);
}

void to_fixed(const float* row, std::int64_t panels, FixedPanel* to) {
  // Adding it rounds to an integer, to nearest even, for anything below 2^22.
  constexpr float kRounder = 0x1.8p23F;
  for (std::int64_t block = 0; block < panels * 8; ++block) {
    const float* x = row + 16 * block;
    std::int32_t largest = 0;  // of the bits without sign: ordered like the numbers
    for (int i = 0; i < 16; ++i) {
      const std::int32_t magnitude = bit_cast<std::int32_t>(x[i]) & 0x7fffffff;
      largest = magnitude > largest ? magnitude : largest;
    }
    // A block with a value that is not finite has scale NaN. largest / scale is in [2^14, 2^15),
    // and, where more than bf16 fills it, half of that above 32640: codes end at +-32640.
    const bool finite = largest < 0x7f800000;
    int exponent = finite ? ((largest + 0xffff) >> 23) - 127 - 14 : 0;
    exponent = exponent < -120 ? -120 : exponent > 113 ? 113 : exponent;
    const float inverse = power_of_two(-exponent);
    std::int32_t codes[16], sum = 0;
    for (int i = 0; i < 16; ++i) {
      float code = x[i] * inverse;
      code = code < 32640.0F ? code : 32640.0F;  // a NaN too
      code = code > -32640.0F ? code : -32640.0F;
      codes[i] = finite ? static_cast<std::int32_t>(code + kRounder - kRounder) : 0;
      sum += codes[i];
    }
    FixedPanel& panel = to[block / 8];
    const std::int64_t lane = 2 * (block % 4) + block % 8 / 4;
    panel.scales[lane] = finite ? power_of_two(exponent) : __builtin_nanf("");
    panel.sums[lane] = static_cast<float>(sum);
    for (int i = 0; i < 16; ++i) {
      const auto low = static_cast<std::int8_t>(codes[i]);
      const std::int64_t column = 4 * lane + i / 8 * 64 + i % 2 * 32 + i % 8 / 2;
      panel.high[column] = static_cast<std::int8_t>((low - codes[i]) / 256);
      panel.low[column] = low;
    }
  }
}

}  // namespace
}  // namespace switchyard::grouped_gemm
