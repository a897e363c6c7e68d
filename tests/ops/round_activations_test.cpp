#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "ops/quantize/quantize.h"
#include "switchyard/error.h"
#include "switchyard/ops.h"

namespace switchyard::ops {
namespace {

template <class T>
std::vector<T> rounded(ActivationFormat format, std::int64_t cols, const std::vector<T>& in,
                       std::optional<float> input_scale = {}) {
  std::vector<T> out(in.size());
  const auto rows = cols == 0 ? 0 : static_cast<std::int64_t>(in.size()) / cols;
  round_activations({format, rows, cols, input_scale}, in.data(), out.data());
  return out;
}

using Doubles = std::vector<double>;

TEST(RoundActivations, SixteenBitFormatsRoundOnce) {
  // 1 + 2^-8 + 2^-40 is above bf16's tie; rounding to f32 first would make it one.
  EXPECT_EQ(rounded(ActivationFormat::bf16, 3, Doubles{1 + 0x1p-8 + 0x1p-40, 1 + 0x1p-8, -0.1}),
            (Doubles{1 + 0x1p-7, 1, -0x1.9ap-4}));
  EXPECT_EQ(rounded(ActivationFormat::fp16, 2, Doubles{1 + 0x1p-11 + 0x1p-40, 1 + 0x1p-11}),
            (Doubles{1 + 0x1p-10, 1}));
  EXPECT_EQ(rounded(ActivationFormat::f32, 1, Doubles{1 + 0x1p-30}), Doubles{1});
}

TEST(RoundActivations, Fp8PerTensorDynamicAndStatic) {
  const Doubles in = {448, 1, -17, 0.1, 33, -448};
  EXPECT_EQ(rounded(ActivationFormat::fp8_tensor, 3, in),
            (Doubles{448, 1, -16, 0.1015625, 32, -448}))
      << "amax 448: scale 1";
  EXPECT_EQ(rounded(ActivationFormat::fp8_tensor, 3, in, 0.5F),
            (Doubles{224, 1, -16, 0.1015625, 32, -224}))
      << "a static scale that is too small saturates";
}

TEST(RoundActivations, Fp8PerTokenAndPerBlock) {
  const Doubles in = {448, 1.0625, 44.8, 1.0625};
  const Doubles rows = rounded(ActivationFormat::fp8_token, 2, in);
  EXPECT_EQ(rows[1], 1) << "1.0625 is a tie at scale 1";
  EXPECT_NEAR(rows[3], 1.1, 1e-6) << "11 steps of 0.1";
  Doubles wide(2 * 130, 1);
  wide[0] = 448;
  wide[127] = wide[128] = 1.0625;
  const Doubles blocks = rounded(ActivationFormat::fp8_block, 130, wide);
  EXPECT_EQ(blocks[127], 1);
  EXPECT_NEAR(blocks[128], 1.0625, 1e-6) << "its own block: 448 steps to the maximum";
  EXPECT_NEAR(blocks[130], 1, 1e-6) << "the next row does not see the first one's maximum";
}

TEST(RoundActivations, Nvfp4ByHand) {
  Doubles in(32, 0);
  in[0] = 6;  // scale 1 at input_scale 1
  in[1] = 2.5;
  in[2] = -0.75;
  in[16] = 60;  // scale 10
  in[17] = 26;
  Doubles expected(32, 0);
  expected[0] = 6;
  expected[1] = 2;
  expected[2] = -1;
  expected[16] = 60;
  expected[17] = 30;
  EXPECT_EQ(rounded(ActivationFormat::nvfp4, 32, in, 1.0F), expected);
  Doubles loud(32, 0);
  loud[0] = 2688;  // dynamic: global scale 1
  loud[16] = 6;
  EXPECT_EQ(rounded(ActivationFormat::nvfp4, 32, loud), loud);
}

TEST(RoundActivations, Mxfp8ByHand) {
  Doubles in(32, 1.0625);
  in[0] = 449;  // scale 2
  const Doubles out = rounded(ActivationFormat::mxfp8, 32, in);
  EXPECT_EQ(out[0], 448);
  EXPECT_EQ(out[1], 1);
}

constexpr ActivationFormat kFormats[] = {ActivationFormat::f32,       ActivationFormat::bf16,
                                         ActivationFormat::fp16,      ActivationFormat::fp8_tensor,
                                         ActivationFormat::fp8_token, ActivationFormat::fp8_block,
                                         ActivationFormat::nvfp4,     ActivationFormat::mxfp8};

TEST(RoundActivations, FloatAndDoubleAgreeAndErrorsAreBounded) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> in(3 * 200);  // short last blocks everywhere
  for (float& x : in) x = normal(random);
  const Doubles wide(in.begin(), in.end());
  const double bounds[] = {0, 0x1p-8, 0x1p-11, 1.0 / 28, 1.0 / 28, 1.0 / 28, 1.07 / 6, 2.0 / 28};
  for (std::size_t f = 0; f < std::size(kFormats); ++f) {
    const std::vector<float> single = rounded(kFormats[f], 200, in);
    const Doubles exact = rounded(kFormats[f], 200, wide);
    double max = 0;
    for (const double x : wide) max = std::max(max, std::abs(x));
    for (std::size_t i = 0; i < in.size(); ++i) {
      ASSERT_EQ(single[i], static_cast<float>(exact[i])) << name(kFormats[f]);
      ASSERT_LE(std::abs(exact[i] - wide[i]), 1.0001 * max * bounds[f]) << name(kFormats[f]);
    }
  }
}

TEST(RoundActivations, ZerosEmptyAndInPlace) {
  for (const ActivationFormat format : kFormats) {
    EXPECT_EQ(rounded(format, 40, Doubles(80, 0)), Doubles(80, 0)) << name(format);
    EXPECT_EQ(rounded(format, 40, Doubles()), Doubles());
    Doubles values(48, 0.3);
    const Doubles expected = rounded(format, 48, values);
    round_activations({format, 1, 48, {}}, values.data(), values.data());
    EXPECT_EQ(values, expected) << name(format);
  }
}

TEST(RoundActivations, BadScaleIsNamed) {
  for (const float scale : {0.0F, -1.0F, std::numeric_limits<float>::infinity(), std::nanf("")})
    for (const ActivationFormat format : {ActivationFormat::nvfp4, ActivationFormat::fp8_tensor}) {
      try {
        rounded(format, 1, Doubles{1}, scale);
        ADD_FAILURE() << "accepted " << scale;
      } catch (const InvalidArgument& error) {
        EXPECT_NE(std::string(error.what()).find("[round_activations] input_scale:"),
                  std::string::npos);
      }
    }
  EXPECT_EQ(rounded(ActivationFormat::bf16, 1, Doubles{1}, 0.0F), Doubles{1}) << "not read";
}

}  // namespace
}  // namespace switchyard::ops
