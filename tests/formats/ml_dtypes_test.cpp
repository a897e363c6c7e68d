// Agreement with ml_dtypes (tools/fixtures/codecs.py): every code, and every bf16 and fp16 bit
// pattern encoded. Where the two differ by rule, the rule is spelt out here and in docs/formats.md.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "formats/bf16.cuh"
#include "formats/convert.h"
#include "formats/fp16.cuh"
#include "formats/fp4.cuh"
#include "formats/fp8.cuh"
#include "switchyard/checkpoint.h"

namespace switchyard::formats {
namespace {

const TensorFile& fixture() {
  static const TensorFile kFile = read_tensors(std::filesystem::path(SWITCHYARD_SOURCE_DIR) /
                                               "tests/fixtures/codecs/ml_dtypes.safetensors");
  return kFile;
}

void expect_same_values(const char* tensor, DType type) {
  const Tensor& theirs = fixture().tensors.at(tensor);
  for (std::int64_t code = 0; code < theirs.shape()[0]; ++code) {
    std::uint8_t byte = static_cast<std::uint8_t>(code);
    const double ours = load(type, &byte, 0);
    const auto expected = static_cast<double>(theirs.as<float>()[code]);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(ours)) << code;
    } else {
      EXPECT_EQ(ours, expected) << code;
      EXPECT_EQ(std::signbit(ours), std::signbit(expected)) << code;
    }
  }
}

TEST(MlDtypes, EveryCodeHasTheSameValue) {
  expect_same_values("decode.float4_e2m1fn", DType::f4_e2m1);
  expect_same_values("decode.float8_e4m3fn", DType::f8_e4m3);
  expect_same_values("decode.float8_e5m2", DType::f8_e5m2);
  expect_same_values("decode.float8_e8m0fnu", DType::f8_e8m0);
}

enum class Target { e2m1, e4m3, e5m2 };

uint8 encode(Target target, float x) {
  switch (target) {
    case Target::e2m1:
      return encode_e2m1(x);
    case Target::e4m3:
      return encode_e4m3(x);
    default:
      return encode_e5m2(x);
  }
}

/// What ml_dtypes makes of x, from our code and its documented differences: it does not saturate
/// FP8, keeps the sign of NaN, and E2M1's NaN is a zero of the other sign instead of +6.
uint8 theirs_by_rule(Target target, float x) {
  const auto sign = static_cast<uint8>(std::signbit(x) ? 0x80 : 0);
  if (target == Target::e2m1 && std::isnan(x)) return sign != 0 ? 0 : 8;
  if (target == Target::e2m1) return encode_e2m1(x);
  if (std::isnan(x)) return static_cast<uint8>(sign | (target == Target::e4m3 ? 0x7f : 0x7e));
  if (target == Target::e4m3 && std::abs(x) > 464) return static_cast<uint8>(sign | 0x7f);
  if (target == Target::e5m2 && std::abs(x) >= 61440) return static_cast<uint8>(sign | 0x7c);
  return encode(target, x);
}

void expect_same_codes(const char* tensor, Target target, float (*decode)(uint16)) {
  const Tensor& theirs = fixture().tensors.at(tensor);
  ASSERT_EQ(theirs.shape(), (Shape{65536}));
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const float x = decode(static_cast<uint16>(bits));
    ASSERT_EQ(theirs_by_rule(target, x), theirs.as<std::uint8_t>()[bits]) << tensor << " " << x;
  }
}

TEST(MlDtypes, EverySixteenBitFloatHasTheSameCode) {
  expect_same_codes("encode.bfloat16.float4_e2m1fn", Target::e2m1, decode_bf16);
  expect_same_codes("encode.bfloat16.float8_e4m3fn", Target::e4m3, decode_bf16);
  expect_same_codes("encode.bfloat16.float8_e5m2", Target::e5m2, decode_bf16);
  expect_same_codes("encode.float16.float4_e2m1fn", Target::e2m1, decode_fp16);
  expect_same_codes("encode.float16.float8_e4m3fn", Target::e4m3, decode_fp16);
  expect_same_codes("encode.float16.float8_e5m2", Target::e5m2, decode_fp16);
}

}  // namespace
}  // namespace switchyard::formats
