// Every code of every element type against values written down or computed by std::ldexp, and
// every rounding boundary against a search for the nearest value.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "formats/bf16.cuh"
#include "formats/e8m0.cuh"
#include "formats/fp16.cuh"
#include "formats/fp4.cuh"
#include "formats/fp8.cuh"
#include "formats/int4.cuh"

namespace switchyard::formats {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Codec {
  std::string name;
  unsigned codes;  // with both signs
  int exponent_bits, mantissa_bits;
  double overflow;   // what an infinity becomes
  unsigned nan;      // what NaN becomes
  bool ieee;         // the last exponent is infinity and NaN
  bool nan_at_ones;  // only the all-ones code is NaN
  std::function<unsigned(float)> encode;
  std::function<unsigned(double)> encode_f64;
  std::function<float(unsigned)> decode;
};

const Codec kCodecs[] = {
    {"e2m1", 16, 2, 1, 6, 7, false, false, [](float x) { return unsigned{encode_e2m1(x)}; },
     [](double x) { return unsigned{encode_e2m1(x)}; },
     [](unsigned c) { return decode_e2m1(static_cast<uint8>(c)); }},
    {"e4m3", 256, 4, 3, 448, 0x7f, false, true, [](float x) { return unsigned{encode_e4m3(x)}; },
     [](double x) { return unsigned{encode_e4m3(x)}; },
     [](unsigned c) { return decode_e4m3(static_cast<uint8>(c)); }},
    {"e5m2", 256, 5, 2, 57344, 0x7f, true, false, [](float x) { return unsigned{encode_e5m2(x)}; },
     [](double x) { return unsigned{encode_e5m2(x)}; },
     [](unsigned c) { return decode_e5m2(static_cast<uint8>(c)); }},
    {"fp16", 65536, 5, 10, kInf, 0x7fff, true, false,
     [](float x) { return unsigned{encode_fp16(x)}; },
     [](double x) { return unsigned{encode_fp16(x)}; },
     [](unsigned c) { return decode_fp16(static_cast<uint16>(c)); }},
    {"bf16", 65536, 8, 7, kInf, 0x7fff, true, false, [](float x) { return encode_bf16(x); },
     [](double x) { return encode_bf16(x); },
     [](unsigned c) { return decode_bf16(static_cast<uint16>(c)); }},
};

/// The value of a code from the format's definition.
double defined_value(const Codec& codec, unsigned code) {
  const unsigned magnitude = code % (codec.codes / 2);
  const unsigned ones = codec.codes / 2 - 1;
  const int bias = (1 << (codec.exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(magnitude >> codec.mantissa_bits);
  const unsigned fraction = magnitude & ((1U << codec.mantissa_bits) - 1);
  double value = exponent == 0 ? std::ldexp(fraction, 1 - bias - codec.mantissa_bits)
                               : std::ldexp(fraction + (1U << codec.mantissa_bits),
                                            exponent - bias - codec.mantissa_bits);
  if (codec.ieee && exponent == (1 << codec.exponent_bits) - 1) value = fraction == 0 ? kInf : kNan;
  if (codec.nan_at_ones && magnitude == ones) value = kNan;
  return code == magnitude ? value : -value;
}

class CodecTest : public testing::TestWithParam<Codec> {};

TEST_P(CodecTest, EveryCodeHasItsValueAndComesBack) {
  const Codec& codec = GetParam();
  for (unsigned code = 0; code < codec.codes; ++code) {
    const double value = defined_value(codec, code);
    const float decoded = codec.decode(code);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(decoded)) << code;
      continue;
    }
    ASSERT_EQ(static_cast<double>(decoded), value) << code;
    ASSERT_EQ(std::signbit(decoded), std::signbit(value)) << code;
    const bool saturates = std::isinf(value) && codec.overflow < kInf;
    if (saturates) continue;
    ASSERT_EQ(codec.encode(decoded), code);
    ASSERT_EQ(codec.encode_f64(value), code);
  }
}

TEST_P(CodecTest, BetweenTwoCodesTheNearestWinsAndTiesAreEven) {
  const Codec& codec = GetParam();
  const unsigned sign = codec.codes / 2;
  for (unsigned code = 0;; ++code) {
    const double low = defined_value(codec, code), high = defined_value(codec, code + 1);
    if (!std::isfinite(high)) break;
    const double middle = (low + high) / 2;
    const unsigned even = code % 2 == 0 ? code : code + 1;
    ASSERT_EQ(codec.encode_f64(middle), even) << middle;
    ASSERT_EQ(codec.encode_f64(-middle), sign + even) << middle;
    ASSERT_EQ(codec.encode_f64(std::nextafter(middle, 0)), code) << middle;
    ASSERT_EQ(codec.encode_f64(std::nextafter(middle, kInf)), code + 1) << middle;
    const auto single = static_cast<float>(middle);
    ASSERT_EQ(static_cast<double>(single), middle);
    ASSERT_EQ(codec.encode(single), even) << middle;
    ASSERT_EQ(codec.encode(-single), sign + even) << middle;
    ASSERT_EQ(codec.encode(std::nextafterf(single, 0)), code) << middle;
    ASSERT_EQ(codec.encode(std::nextafterf(single, HUGE_VALF)), code + 1) << middle;
    if (code + 2 == sign) break;
  }
}

TEST_P(CodecTest, ExtremesFollowTheRules) {
  const Codec& codec = GetParam();
  const unsigned sign = codec.codes / 2;
  for (const double x : {kInf, 1e300}) {
    EXPECT_EQ(static_cast<double>(codec.decode(codec.encode_f64(x))), codec.overflow);
    EXPECT_EQ(static_cast<double>(codec.decode(codec.encode_f64(-x))), -codec.overflow);
  }
  EXPECT_EQ(static_cast<double>(codec.decode(codec.encode(HUGE_VALF))), codec.overflow);
  EXPECT_EQ(static_cast<double>(codec.decode(codec.encode(-HUGE_VALF))), -codec.overflow);
  EXPECT_EQ(codec.encode(-0.0F), sign);
  EXPECT_EQ(codec.encode_f64(-0.0), sign);
  EXPECT_EQ(codec.encode_f64(-5e-324), sign);
  for (const double nan : {kNan, -kNan}) {
    EXPECT_EQ(codec.encode_f64(nan), codec.nan);
    EXPECT_EQ(codec.encode(static_cast<float>(nan)), codec.nan);
  }
}

INSTANTIATE_TEST_SUITE_P(All, CodecTest, testing::ValuesIn(kCodecs),
                         [](const auto& test) { return test.param.name; });

/// The branchless encoder against the general one, which the tests above pin down in f64.
template <Minifloat kTo>
void expect_same_encoders() {
  for (uint64 bits = 0; bits < 1ULL << 32; bits += 997) {  // prime: every exponent, all low bits
    const auto x = std::bit_cast<float>(static_cast<uint32>(bits));
    ASSERT_EQ(encode_f32<kTo>(x), encode<kTo>(x)) << std::hexfloat << x;
  }
}

TEST(Minifloat, BothEncodersAgreeOnFourMillionFloats) {
  expect_same_encoders<kE2m1>();
  expect_same_encoders<kE4m3>();
  expect_same_encoders<kE5m2>();
  expect_same_encoders<kFp16>();
}

TEST(E2m1, IsTheSixteenValues) {
  const float values[16] = {0,     0.5F,  1,     1.5F,  2,     3,     4,     6,
                            -0.0F, -0.5F, -1.0F, -1.5F, -2.0F, -3.0F, -4.0F, -6.0F};
  for (uint8 code = 0; code < 16; ++code) EXPECT_EQ(decode_e2m1(code), values[code]);
}

TEST(E2m1, TiesAsTheSpecificationListsThem) {
  const float ties[][2] = {{0.25F, 0}, {0.75F, 1}, {1.25F, 1}, {1.75F, 2},
                           {2.5F, 2},  {3.5F, 4},  {5, 4},     {7, 6}};
  for (const auto& [x, expected] : ties) {
    EXPECT_EQ(decode_e2m1(encode_e2m1(x)), expected) << x;
    EXPECT_EQ(decode_e2m1(encode_e2m1(-x)), -expected) << x;
  }
}

TEST(E4m3, LandmarkCodes) {
  const std::pair<uint8, double> codes[] = {
      {0x00, 0},     {0x01, 0x1p-9},  {0x07, 0x7p-9}, {0x08, 0x1p-6}, {0x30, 0.5}, {0x38, 1},
      {0x39, 1.125}, {0x40, 2},       {0x48, 4},      {0x4c, 6},      {0x77, 240}, {0x78, 256},
      {0x7e, 448},   {0x81, -0x1p-9}, {0xb8, -1},     {0xfe, -448}};
  for (const auto& [code, value] : codes)
    EXPECT_EQ(static_cast<double>(decode_e4m3(code)), value) << int{code};
  EXPECT_TRUE(std::isnan(decode_e4m3(0x7f)));
  EXPECT_TRUE(std::isnan(decode_e4m3(0xff)));
  EXPECT_EQ(encode_e4m3(464.0F), 0x7e) << "half way to the absent 480";
  EXPECT_EQ(encode_e4m3(1e9F), 0x7e);
}

TEST(E5m2, LandmarkCodes) {
  EXPECT_EQ(decode_e5m2(0x01), 0x1p-16F);
  EXPECT_EQ(decode_e5m2(0x3c), 1.0F);
  EXPECT_EQ(decode_e5m2(0x7b), 57344.0F);
  EXPECT_TRUE(std::isinf(decode_e5m2(0x7c)));
  EXPECT_EQ(encode_e5m2(61440.0F), 0x7b);
}

TEST(E8m0, EveryCodeIsItsPowerOfTwo) {
  for (unsigned code = 0; code < 255; ++code) {
    const float value = decode_e8m0(static_cast<uint8>(code));
    ASSERT_EQ(value, std::ldexp(1.0F, static_cast<int>(code) - 127));
    EXPECT_EQ(encode_e8m0_up(value), code);
    EXPECT_EQ(encode_e8m0_nearest(value), code);
    EXPECT_EQ(value * e8m0_multiplier(static_cast<uint8>(code)), code > 0 ? 1.0F : 0.0F);
    if (code == 254) continue;
    EXPECT_EQ(encode_e8m0_up(std::nextafterf(value, HUGE_VALF)), code + 1);
    const float tie = value * 1.5F;
    EXPECT_EQ(encode_e8m0_nearest(tie), code + code % 2);
    EXPECT_EQ(encode_e8m0_nearest(std::nextafterf(tie, 0)), code);
    EXPECT_EQ(encode_e8m0_nearest(std::nextafterf(tie, HUGE_VALF)), code + 1);
  }
  EXPECT_TRUE(std::isnan(decode_e8m0(255)));
}

TEST(E8m0, ZeroSaturationNanAndSign) {
  for (const auto encode : {encode_e8m0_up, encode_e8m0_nearest}) {
    EXPECT_EQ(encode(0.0F), 0);
    EXPECT_EQ(encode(std::numeric_limits<float>::max()), 254);
    EXPECT_EQ(encode(HUGE_VALF), 254);
    EXPECT_EQ(encode(-4.0F), 129);
    EXPECT_EQ(encode(std::numeric_limits<float>::quiet_NaN()), 255);
  }
  EXPECT_EQ(e8m0_multiplier(0), 0.0F);
  EXPECT_TRUE(std::isnan(e8m0_multiplier(255)));
}

TEST(Int4, SignFlipIsTwosComplement) {
  for (int value = -8; value < 8; ++value) {
    const auto offset_binary = static_cast<uint8>(value + 8);
    const auto twos_complement = static_cast<uint8>(value & 0xf);
    EXPECT_EQ(flip_int4_sign(twos_complement), offset_binary);
    EXPECT_EQ(flip_int4_sign(offset_binary), twos_complement);
  }
}

TEST(Int4, RoundsToEvenAndSaturates) {
  const std::pair<float, int> codes[] = {{0, 8},      {0.5F, 8},  {1.5F, 10}, {-0.5F, 8},
                                         {-1.5F, 6},  {7.4F, 15}, {7.6F, 15}, {-8.5F, 0},
                                         {1e30F, 15}, {-1e30F, 0}};
  for (const auto& [x, code] : codes) EXPECT_EQ(encode_int4(2 * x, 2.0F), code) << x;
  EXPECT_EQ(encode_int4(3.0F, 1.0F, 4), 7);
}

TEST(Nibbles, EvenElementIsLow) {
  const uint8 packed[] = {pack_nibbles(0x3, 0xa), pack_nibbles(0xf, 0x0)};
  EXPECT_EQ(packed[0], 0xa3);
  const uint8 expected[] = {0x3, 0xa, 0xf, 0x0};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(nibble(packed, i), expected[i]);
}

// What the kernels' tables rely on: codecs are constant expressions.
static_assert(encode_e4m3(448.0F) == 0x7e && decode_e2m1(encode_e2m1(2.5F)) == 2.0F);
static_assert(encode_bf16(1.0F) == 0x3f80 && encode_fp16(1.0) == 0x3c00);
static_assert(encode_e8m0_up(3.0F) == 129 && encode_int4(2.5F, 1.0F) == 10);

}  // namespace
}  // namespace switchyard::formats
