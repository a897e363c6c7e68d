#pragma once

#include "ops/grouped_gemm/simd.h"
#include "ops/grouped_gemm/simd_vector.h"

// Activations to 16-bit fixed point (FixedRows), in plain loops that compilers vectorise.
namespace switchyard::grouped_gemm {
namespace {

/// 2^exponent for -126 <= exponent <= 127.
inline float power_of_two(int exponent) {
  return bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23);
}

void to_fixed(const float* row, const FixedMemory& to) {
  // Adding it rounds to an integer, to nearest even, for anything below 2^22.
  constexpr float kRounder = 0x1.8p23F;
  for (std::int64_t block = 0; block < to.stride / 16; ++block) {
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
    const std::int64_t panel = block / 8, quarter = block % 4, half = block % 8 / 4;
    const std::int64_t lane = 8 * panel + 2 * quarter + half;
    to.scales[lane] = finite ? power_of_two(exponent) : __builtin_nanf("");
    to.sums[lane] = static_cast<float>(sum);
    std::int8_t* bytes = to.codes + 256 * panel + 8 * quarter + 4 * half;
    for (int i = 0; i < 16; ++i) {
      const auto low = static_cast<std::int8_t>(codes[i]);
      const int column = i / 8 * 64 + i % 2 * 32 + i % 8 / 2;
      bytes[column] = static_cast<std::int8_t>((low - codes[i]) / 256);
      bytes[column + 128] = low;
    }
  }
}

}  // namespace
}  // namespace switchyard::grouped_gemm
