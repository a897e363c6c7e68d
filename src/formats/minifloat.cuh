#pragma once

#include "device/types.cuh"

// Every binary float narrower than f32, from f32 or f64 in one rounding: to nearest, ties to even.
// Host, device and constant expressions agree to the bit.
namespace switchyard::formats {

struct Minifloat {
  int exponent_bits, mantissa_bits;
  uint32 largest;   // code of the largest finite value
  uint32 overflow;  // code of everything beyond it: infinity, or `largest` where we saturate
  uint32 nan;       // code that NaN becomes, whatever its sign
  SWITCHYARD_BOTH constexpr int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  SWITCHYARD_BOTH constexpr uint32 sign() const { return 1U << (exponent_bits + mantissa_bits); }
};

template <class Float>
struct Ieee;
template <>
struct Ieee<float> {
  using Bits = uint32;
  static constexpr int kExponentBits = 8, kMantissaBits = 23;
};
template <>
struct Ieee<double> {
  using Bits = uint64;
  static constexpr int kExponentBits = 11, kMantissaBits = 52;
};

/// Code of the value nearest to `value`; -0 keeps its sign, NaN becomes kTo.nan.
template <Minifloat kTo, class Float>
SWITCHYARD_BOTH constexpr uint32 encode(Float value) {
  using From = Ieee<Float>;
  using Bits = typename From::Bits;
  constexpr int kWidth = 1 + From::kExponentBits + From::kMantissaBits;
  constexpr Bits kHidden = Bits{1} << From::kMantissaBits;
  constexpr int kRebias = kTo.bias() - ((1 << (From::kExponentBits - 1)) - 1);

  const Bits bits = bits_as<Bits>(value);
  const Bits magnitude = bits & ~(Bits{1} << (kWidth - 1));
  const uint32 sign = magnitude == bits ? 0 : kTo.sign();
  if (magnitude > ((Bits{1} << From::kExponentBits) - 1) * kHidden) return kTo.nan;

  Bits mantissa = magnitude & (kHidden - 1);
  int exponent = static_cast<int>(magnitude >> From::kMantissaBits);
  if (exponent == 0) {
    exponent = 1;
  } else {
    mantissa |= kHidden;
  }
  exponent += kRebias;
  int shift = From::kMantissaBits - kTo.mantissa_bits;
  if (exponent < 1) {
    shift += 1 - exponent;
    exponent = 1;
  }
  if (shift > From::kMantissaBits + 1) return sign;  // below half of the smallest value

  const Bits kept = mantissa >> shift;
  const Bits half = Bits{1} << (shift - 1);
  const Bits rest = mantissa & (2 * half - 1);
  const bool up = rest > half || (rest == half && (kept & 1) != 0);
  // A carry out of the mantissa moves into the exponent, as it should.
  const uint32 code = (static_cast<uint32>(exponent - 1) << kTo.mantissa_bits) +
                      static_cast<uint32>(kept) + static_cast<uint32>(up);
  return sign | (code > kTo.largest ? kTo.overflow : code);
}

/// The same from f32 without branches, which compilers vectorise; for exponents narrower than
/// f32's.
template <Minifloat kTo>
SWITCHYARD_BOTH constexpr uint32 encode_f32(float value) {
  static_assert(kTo.exponent_bits < 8);
  constexpr int kShift = 23 - kTo.mantissa_bits;
  constexpr uint32 kHalf = 1U << (kShift - 1);
  constexpr uint32 kRebias = static_cast<uint32>(127 - kTo.bias()) << 23;
  constexpr uint32 kSmallestNormal = kRebias + (1U << 23);
  // The f32 whose last bit is the format's smallest value: adding it rounds to a multiple of that.
  constexpr uint32 kRounder = kSmallestNormal + (static_cast<uint32>(kShift) << 23);

  const uint32 bits = bits_as<uint32>(value);
  const uint32 magnitude = bits & 0x7fffffffU;
  const uint32 subnormal =
      bits_as<uint32>(bits_as<float>(magnitude) + bits_as<float>(kRounder)) - kRounder;
  const uint32 normal =
      (magnitude - kRebias + (kHalf - 1) + ((magnitude >> kShift) & 1U)) >> kShift;
  const uint32 finite = magnitude < kSmallestNormal ? subnormal : normal;
  const uint32 code = (finite > kTo.largest ? kTo.overflow : finite) | (bits >> 31) * kTo.sign();
  return magnitude > 0x7f800000U ? kTo.nan : code;
}

/// The value of a code, exact; for formats whose values are all normal f32.
template <Minifloat kFrom>
SWITCHYARD_BOTH constexpr float decode(uint32 code) {
  static_assert(kFrom.exponent_bits < 8);
  constexpr int kRebias = 127 - kFrom.bias();
  const uint32 magnitude = code & (kFrom.sign() - 1);
  const uint32 sign = (code & kFrom.sign()) != 0 ? 0x80000000U : 0U;
  if (magnitude > kFrom.largest)
    return bits_as<float>(sign | (magnitude == kFrom.overflow ? 0x7f800000U : 0x7fc00000U));
  if ((magnitude >> kFrom.mantissa_bits) == 0) {
    constexpr float kSmallest =
        bits_as<float>(static_cast<uint32>(1 + kRebias - kFrom.mantissa_bits) << 23);
    const float value = static_cast<float>(magnitude) * kSmallest;
    return sign != 0 ? -value : value;
  }
  return bits_as<float>(
      sign | ((magnitude << (23 - kFrom.mantissa_bits)) + (static_cast<uint32>(kRebias) << 23)));
}

}  // namespace switchyard::formats
