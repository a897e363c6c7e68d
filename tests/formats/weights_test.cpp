// Names, checks, quantisation and decoding of weight matrices.
#include "switchyard/weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "formats/convert.h"
#include "formats/decode.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

const std::string kNames[] = {"f32",         "bf16",        "fp16",     "fp8_tensor", "fp8_channel",
                              "fp8_block",   "mxfp8",       "nvfp4",    "mxfp4",      "int4_g32",
                              "fp8_block32", "int4_g64_zp", "int4_g128"};

Tensor random_weights(const Shape& shape, unsigned seed, DType type = DType::f32) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, 0.05);
  Tensor weights(type, shape);
  for (std::int64_t i = 0; i < shape.elements(); ++i)
    formats::store(type, weights.data(), i, normal(random));
  return weights;
}

template <class Call>
std::string message(Call call) {
  try {
    call();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "nothing thrown";
}

TEST(WeightFormat, NamesRoundTrip) {
  for (const std::string& name : kNames) EXPECT_EQ(to_string(weight_format(name)), name);
  EXPECT_EQ(weight_format("int4"), weight_format("int4_g128"));
}

TEST(WeightFormat, UnknownNamesAreRefusedWithTheList) {
  for (const char* name : {"", "fp4", "int4_g", "int4_g0", "int4_g-2", "int4_g032", "int4_g31",
                           "int4_g32_", "int4_g32zp", "int4_g99999999999", "NVFP4"}) {
    const std::string text = message([&] { weight_format(name); });
    EXPECT_NE(text.find("nvfp4"), std::string::npos) << text;
    EXPECT_NE(text.find("'" + std::string(name) + "'"), std::string::npos) << text;
  }
}

TEST(WeightFormat, UnnamedFormatsAreDescribed) {
  WeightFormat format = weight_format("fp8_block");
  format.scale = DType::f8_e8m0;
  EXPECT_EQ(to_string(format), "f8_e4m3 scale f8_e8m0 128x128");
  format = weight_format("int4_g128_zp");
  format.scale = DType::f16;
  EXPECT_EQ(to_string(format), "u4 scale f16 1x128 zero_points");
  format = weight_format("fp8_channel");
  format.scale = DType::bf16;
  EXPECT_EQ(to_string(format), "f8_e4m3 scale bf16 1x*");
}

TEST(WeightFormat, ZeroScaleExtentIsTheWholeMatrix) {
  EXPECT_EQ(scale_block(weight_format("fp8_tensor"), 6, 10).rows, 6);
  EXPECT_EQ(scale_block(weight_format("fp8_tensor"), 6, 10).cols, 10);
  EXPECT_EQ(scale_block(weight_format("fp8_channel"), 6, 10).rows, 1);
  EXPECT_EQ(scale_block(weight_format("nvfp4"), 6, 32).cols, 16);
}

class EveryFormat : public testing::TestWithParam<std::string> {};

TEST_P(EveryFormat, QuantisedMatrixPassesItsCheckAndIsAsSmallAsItSays) {
  const WeightFormat format = weight_format(GetParam());
  const ExpertMatrix matrix = quantize(random_weights({2, 6, 256}, 1).view(), format);
  EXPECT_NO_THROW(check(matrix, "matrix"));
  EXPECT_EQ(matrix.format, format);
  EXPECT_EQ(matrix.bytes(), matrix.elements.bytes() + matrix.scales.bytes() + matrix.zeros.bytes() +
                                matrix.global_scale.bytes());
  EXPECT_EQ(matrix.elements.bytes(), 2 * 6 * 256 * bits(format.element) / 8);
}

/// Half a step of the element type at the largest value of its block, relative to that value.
double error_bound(const WeightFormat& format) {
  const double scale_slack = format.global_scale              ? 1 + 1.0 / 16  // E4M3 rounding
                             : format.scale == DType::f8_e8m0 ? 2             // rounded up
                             : format.scale == DType::bf16    ? 1 + 1.0 / 256
                                                              : 1 + 1e-6;
  if (format.element == DType::f32) return 0;
  if (format.element == DType::bf16) return 1.0 / 256;
  if (format.element == DType::f16) return 1.0 / 2048;
  if (format.element == DType::f8_e4m3) return scale_slack / 28;  // 16 of 448
  if (format.element == DType::f4_e2m1) return scale_slack / 6;   // 1 of 6
  // INT4: the largest value saturates when bf16 rounds the scale down; zero points round once more.
  return format.zero_points ? 2 * scale_slack / 15 : 1.0 / 15 + 1.0 / 256;
}

TEST_P(EveryFormat, RoundTripStaysWithinHalfAStep) {
  const WeightFormat format = weight_format(GetParam());
  for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
    const Tensor weights = random_weights({2, 5, 256}, 2, type);
    const ExpertMatrix matrix = quantize(weights.view(), format);
    const Tensor back = dequantize(matrix, DType::f64);
    const ScaleBlock block = scale_block(format, 5, 256);
    for (std::int64_t e = 0; e < 2; ++e)
      for (std::int64_t r = 0; r < 5; ++r)
        for (std::int64_t c = 0; c < 256; ++c) {
          double max = 0;  // of the block that shares the scale
          for (std::int64_t i = r / block.rows * block.rows;
               i < std::min<std::int64_t>(5, (r / block.rows + 1) * block.rows); ++i)
            for (std::int64_t j = c / block.cols * block.cols;
                 j < std::min<std::int64_t>(256, (c / block.cols + 1) * block.cols); ++j)
              max = std::max(max,
                             std::abs(formats::load(type, weights.data(), (e * 5 + i) * 256 + j)));
          const std::int64_t index = (e * 5 + r) * 256 + c;
          const double x = formats::load(type, weights.data(), index);
          ASSERT_LE(std::abs(back.as<double>()[index] - x), max * error_bound(format))
              << GetParam() << " at " << index;
        }
  }
}

TEST_P(EveryFormat, RowsDecodeToTheDefinition) {
  const WeightFormat format = weight_format(GetParam());
  const ExpertMatrix matrix =
      quantize(random_weights({2, 6, 256}, 3).view(), format, format.global_scale ? 2 : 1);
  std::vector<float> single(256);
  std::vector<double> exact(256);
  for (std::int64_t e = 0; e < 2; ++e)
    for (std::int64_t r = 0; r < 6; ++r) {
      formats::decode_row(matrix, e, r, single.data());
      formats::decode_row(matrix, e, r, exact.data());
      const auto global = static_cast<double>(formats::row_global(matrix, e, r));
      for (std::size_t c = 0; c < 256; ++c) {
        ASSERT_EQ(exact[c] * global, formats::value(matrix, e, r, static_cast<std::int64_t>(c)));
        ASSERT_EQ(single[c], static_cast<float>(exact[c]));
      }
    }
}

TEST_P(EveryFormat, DequantisedTypesAreTheExactValueRoundedOnce) {
  const ExpertMatrix matrix =
      quantize(random_weights({1, 4, 128}, 4).view(), weight_format(GetParam()));
  const Tensor exact = dequantize(matrix, DType::f64);
  for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
    const Tensor rounded = dequantize(matrix, type);
    Tensor expected(type, exact.shape());
    formats::store_run(type, expected.data(), 0, 4 * 128, exact.as<double>());
    EXPECT_EQ(0, std::memcmp(rounded.data(), expected.data(),
                             static_cast<std::size_t>(expected.bytes())));
  }
}

TEST_P(EveryFormat, ZerosAndNothingAreFine) {
  const WeightFormat format = weight_format(GetParam());
  const Tensor back =
      dequantize(quantize(Tensor::zeros(DType::bf16, {1, 2, 256}).view(), format), DType::f32);
  for (std::int64_t i = 0; i < 512; ++i) ASSERT_EQ(back.as<float>()[i], 0);
  EXPECT_EQ(quantize(Tensor(DType::f32, {0, 4, 256}).view(), format).experts(), 0);
  EXPECT_EQ(quantize(Tensor(DType::f32, {2, 0, 256}).view(), format).out(), 0);
}

TEST_P(EveryFormat, ExtremeWeightsStayFinite) {
  const WeightFormat format = weight_format(GetParam());
  for (const float loud : {format.element == DType::f16 ? 65504.0F : 3e38F, 1e-37F, 1e-45F}) {
    Tensor weights = Tensor::zeros(DType::f32, {1, 1, 128});
    weights.as<float>()[1] = loud;
    weights.as<float>()[2] = -loud;
    const Tensor back = dequantize(quantize(weights.view(), format), DType::f64);
    for (std::int64_t i = 0; i < 128; ++i)
      ASSERT_LE(std::abs(back.as<double>()[i]), 1.2 * static_cast<double>(loud)) << loud;
  }
}

INSTANTIATE_TEST_SUITE_P(Names, EveryFormat, testing::ValuesIn(kNames),
                         [](const auto& test) { return test.param; });

TEST(Quantize, BlocksAtTheEdgeHaveTheirOwnScale) {
  Tensor weights = random_weights({1, 130, 200}, 5);
  const ExpertMatrix matrix = quantize(weights.view(), weight_format("fp8_block"));
  EXPECT_EQ(matrix.scales.shape(), (Shape{1, 2, 2}));
  float max = 0;
  for (std::int64_t r = 128; r < 130; ++r)
    for (std::int64_t c = 128; c < 200; ++c)
      max = std::max(max, std::abs(weights.as<float>()[r * 200 + c]));
  EXPECT_EQ(matrix.scales.as<float>()[3], max / 448);
}

TEST(Quantize, PartsHaveTheirOwnGlobalScale) {
  Tensor weights = random_weights({1, 4, 32}, 6);
  weights.as<float>()[0] = 2688;
  weights.as<float>()[3 * 32] = 26.88F;
  const ExpertMatrix matrix = quantize(weights.view(), weight_format("nvfp4"), 2);
  EXPECT_EQ(matrix.global_scale.shape(), (Shape{1, 2}));
  EXPECT_EQ(formats::row_global(matrix, 0, 1), 1.0F);
  EXPECT_EQ(formats::row_global(matrix, 0, 2), 26.88F / 2688);
  EXPECT_NEAR(formats::value(matrix, 0, 3, 0), 26.88, 1e-5);
}

TEST(Quantize, RecipesAgreeUpToTheLastBitOfTheMultiplier) {
  const Tensor weights = random_weights({1, 64, 256}, 8);
  const ExpertMatrix fast = quantize(weights.view(), weight_format("nvfp4"), 1, ScaleRecipe::fast);
  const ExpertMatrix exact = quantize(weights.view(), weight_format("nvfp4"));
  int different = 0;
  for (std::int64_t i = 0; i < fast.elements.bytes(); ++i)
    different += fast.elements.as<std::uint8_t>()[i] != exact.elements.as<std::uint8_t>()[i];
  EXPECT_LE(different, 64 * 256 / 2 / 100);
}

TEST(Quantize, BadArgumentsNameTheArgument) {
  const Tensor weights = random_weights({1, 4, 48}, 7);
  const auto quantized = [&](ConstTensorView view, const char* format, int parts = 1) {
    return message([&] { quantize(view, weight_format(format), parts); });
  };
  EXPECT_EQ(quantized({}, "bf16"),
            "[quantize] weights: expected f32, bf16 or f16 [E, out, in], got none [].");
  EXPECT_EQ(quantized({weights.data(), DType::f32, {4, 48}}, "bf16"),
            "[quantize] weights: expected f32, bf16 or f16 [E, out, in], got f32 [4, 48].");
  EXPECT_EQ(quantized({weights.data(), DType::i32, {1, 4, 48}}, "bf16"),
            "[quantize] weights: expected f32, bf16 or f16 [E, out, in], got i32 [1, 4, 48].");
  EXPECT_EQ(quantized(weights.view(), "mxfp4"),
            "[quantize] weights: expected a last extent in whole groups of 32, got 48. Pad it.");
  EXPECT_EQ(quantized(weights.view(), "mxfp8"),
            "[quantize] weights: expected a last extent in whole groups of 32, got 48. Pad it.");
  EXPECT_EQ(quantized(weights.view(), "nvfp4", 3),
            "[quantize] parts: expected 1, or a divisor of 4 rows for formats with a global scale, "
            "got 3 for nvfp4.");
  EXPECT_EQ(quantized(weights.view(), "bf16", 2),
            "[quantize] parts: expected 1, or a divisor of 4 rows for formats with a global scale, "
            "got 2 for bf16.");
  WeightFormat unknown = weight_format("nvfp4");
  unknown.scale = DType::f32;
  EXPECT_EQ(
      message([&] { quantize(weights.view(), unknown); }),
      "[quantize] format: expected one that weight_format() names, got f4_e2m1 scale f32 1x16 "
      "global.");
  EXPECT_EQ(
      message([&] { dequantize(quantize(weights.view(), weight_format("bf16")), DType::u8); }),
      "[dequantize] to: expected f32, bf16, f16 or f64, got u8.");
}

TEST(Quantize, ValuesThatDoNotFitAreNamedWithTheirPlace) {
  Tensor weights = Tensor::zeros(DType::f32, {2, 3, 32});
  weights.as<float>()[(1 * 3 + 2) * 32 + 5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(message([&] { quantize(weights.view(), weight_format("nvfp4")); }),
            "[quantize] weights: expected finite values that fit f4_e2m1, got nan at expert 1, row "
            "2, column 5.");
  weights.as<float>()[(1 * 3 + 2) * 32 + 5] = 65520;
  EXPECT_EQ(
      message([&] { quantize(weights.view(), weight_format("fp16")); }),
      "[quantize] weights: expected finite values that fit f16, got 65520 at expert 1, row 2, "
      "column 5.");
}

}  // namespace
}  // namespace switchyard
