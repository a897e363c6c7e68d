// The NVFP4 quantiser against a model that shares no code with it: tables of values searched for
// the nearest, and the recipes' arithmetic written out in float.
#include "formats/nvfp4.cuh"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "formats/bf16.cuh"
#include "formats/convert.h"
#include "switchyard/error.h"
#include "switchyard/ops.h"

namespace switchyard::ops {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kMax = std::numeric_limits<float>::max();

/// Index of the value nearest to x >= 0 in an ascending table; ties to the even index.
/// Everything beyond the table's end becomes its last index.
template <std::size_t kSize>
std::uint8_t nearest(const std::array<float, kSize>& table, float x) {
  x = std::min(x, 2 * table.back());  // where doubles still tell the distances apart
  std::size_t best = kSize - 1;
  for (std::size_t i = 0; i < kSize; ++i) {
    const double distance = std::abs(static_cast<double>(table[i]) - static_cast<double>(x));
    const double so_far = std::abs(static_cast<double>(table[best]) - static_cast<double>(x));
    if (distance < so_far || (distance == so_far && i % 2 == 0)) best = i;
  }
  return static_cast<std::uint8_t>(best);
}

constexpr std::array<float, 8> kE2m1Values = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6};

std::array<float, 127> e4m3_values() {
  std::array<float, 127> values{};
  for (int i = 0; i < 127; ++i)
    values[static_cast<std::size_t>(i)] =
        i < 8 ? std::ldexp(static_cast<float>(i), -9)
              : std::ldexp(static_cast<float>(8 + i % 8), i / 8 - 10);
  return values;
}

std::uint8_t model_element(float x) {
  if (std::isnan(x)) return 7;
  const std::uint8_t code = nearest(kE2m1Values, std::abs(x));
  return static_cast<std::uint8_t>(code | (std::signbit(x) ? 8 : 0));
}

struct ModelBlock {
  std::uint8_t scale;
  std::array<std::uint8_t, 16> codes;
  bool operator==(const ModelBlock&) const = default;
};

enum class Recipe { fast, exact, epilogue };

float flush(float x) {
  return std::abs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0F, x) : x;
}
float approximate_reciprocal(float x) {
  return flush(1.0F / flush(x));
}

ModelBlock model(const std::array<float, 16>& x, float g, Recipe recipe) {
  static const std::array<float, 127> kE4m3 = e4m3_values();
  float vmax = 0;
  for (const float value : x) vmax = std::fmax(vmax, std::fabs(value));
  float scale = 0;
  if (recipe == Recipe::fast) scale = g * (vmax * approximate_reciprocal(6));
  if (recipe == Recipe::exact) scale = vmax * (g * (1.0F / 6.0F));
  if (recipe == Recipe::epilogue) scale = (vmax * (1.0F / 6.0F)) * g;
  ModelBlock block{.scale = nearest(kE4m3, scale), .codes = {}};
  const float stored = kE4m3[block.scale];
  float multiplier = 0;
  if (recipe == Recipe::fast)
    multiplier = vmax != 0 ? approximate_reciprocal(stored * approximate_reciprocal(g)) : 0;
  if (recipe == Recipe::exact) multiplier = std::fmin(1.0F / (stored * (1.0F / g)), kMax);
  if (recipe == Recipe::epilogue) multiplier = std::fmin(g * approximate_reciprocal(stored), kMax);
  for (std::size_t i = 0; i < 16; ++i) block.codes[i] = model_element(x[i] * multiplier);
  return block;
}

/// The same block through the library's functions.
ModelBlock ours(const std::array<float, 16>& x, float g, Recipe recipe) {
  float vmax = 0;
  for (const float value : x) vmax = std::max(vmax, std::abs(value));
  const formats::Nvfp4Scale scale = recipe == Recipe::fast ? formats::nvfp4_scale_fast(vmax, g)
                                    : recipe == Recipe::exact
                                        ? formats::nvfp4_scale_exact(vmax, g)
                                        : formats::nvfp4_scale_epilogue(vmax, g);
  ModelBlock block{.scale = scale.code, .codes = {}};
  for (std::size_t i = 0; i < 16; ++i)
    block.codes[i] = formats::encode_e2m1(x[i] * scale.multiplier);
  return block;
}

constexpr Recipe kRecipes[] = {Recipe::fast, Recipe::exact, Recipe::epilogue};

TEST(Nvfp4, AllRecipesMatchTheModelOnRandomBlocks) {
  constexpr unsigned kSeed = 7;
  SCOPED_TRACE(kSeed);
  std::mt19937 random(kSeed);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> exponent(-30, 30);
  for (int round = 0; round < 10000; ++round) {
    const float loudness = std::exp2(exponent(random));
    std::array<float, 16> x{};
    for (float& value : x) value = loudness * normal(random);
    if (round % 2 == 0)  // the 16-bit inputs of the engines, where ties are common
      for (float& value : x) value = formats::decode_bf16(formats::encode_bf16(value));
    const float g = 2688.0F / (loudness * std::exp2(std::abs(exponent(random)) / 3));
    for (const Recipe recipe : kRecipes)
      ASSERT_EQ(ours(x, g, recipe), model(x, g, recipe)) << round;
  }
}

TEST(Nvfp4, AllRecipesMatchTheModelAtTheEdges) {
  const float values[] = {0,      -0.0F,  1,       -6,    6,    0.25F, 2.5F,      5,
                          1e-38F, 1e-45F, -1e-45F, 1e38F, kMax, -kMax, 0x1p-126F, 448};
  const float globals[] = {1, 448, 2688, 0x1p-100F, 0x1p100F, 1e-38F, 1e38F, 0x1p-126F};
  for (const float loudest : values)
    for (const float g : globals)
      for (const Recipe recipe : kRecipes) {
        std::array<float, 16> x{};
        x[0] = loudest;
        x[1] = -loudest / 3;
        x[2] = -0.0F;
        x[3] = loudest / 24;
        ASSERT_EQ(ours(x, g, recipe), model(x, g, recipe)) << loudest << " " << g;
      }
}

TEST(Nvfp4, ZeroBlockIsZeroBytes) {
  const std::array<float, 16> zeros{};
  for (const Recipe recipe : kRecipes) {
    const ModelBlock block = ours(zeros, 2688, recipe);
    EXPECT_EQ(block.scale, 0);
    EXPECT_EQ(block.codes, (std::array<std::uint8_t, 16>{}));
  }
}

TEST(Nvfp4, TheTensorsLargestBlockHasScale448) {
  std::array<float, 16> x{};
  x[3] = -10;
  x[4] = 5;
  x[5] = -0.0F;
  x[6] = 2.5F;
  for (const Recipe recipe : kRecipes) {
    const ModelBlock block = ours(x, 268.8F, recipe);  // 2688 / 10
    EXPECT_EQ(block.scale, 0x7e);
    EXPECT_EQ(block.codes[3], 0xf) << "-6";
    EXPECT_EQ(block.codes[4], 0x5) << "3";
    EXPECT_EQ(block.codes[5], 0x8) << "-0 keeps its sign";
    EXPECT_EQ(block.codes[6], 0x3) << "1.5";
  }
}

TEST(Nvfp4, ElementTiesGoToEvenCodes) {
  // Scale 1 and multiplier 1 exactly: g = 1, max 6.
  const std::array<float, 16> x = {6,      0.25F,  0.75F, 1.25F,  1.75F, 2.5F,  3.5F, 5,
                                   -0.25F, -0.75F, 5.5F,  -1.75F, -2.5F, -3.5F, -5,   -6};
  const std::array<std::uint8_t, 16> expected = {7, 0,  2, 2,  4,  4,  6,  6,
                                                 8, 10, 7, 12, 12, 14, 14, 15};
  for (const Recipe recipe : kRecipes) {
    const ModelBlock block = ours(x, 1, recipe);
    EXPECT_EQ(block.scale, 0x38);
    EXPECT_EQ(block.codes, expected);
  }
}

TEST(Nvfp4, UnderflowingScaleSaturatesInFastAndKeepsZerosInExact) {
  std::array<float, 16> x{};
  x[0] = 1e-6F;  // scale 1e-6 / 6 is far below E4M3's 2^-9
  x[1] = -1e-6F;
  const ModelBlock fast = ours(x, 1, Recipe::fast);
  EXPECT_EQ(fast.scale, 0);
  EXPECT_EQ(fast.codes[0], 7);
  EXPECT_EQ(fast.codes[1], 15);
  EXPECT_EQ(fast.codes[2], 7) << "0 * inf is NaN, and NaN is +6: scale 0 hides it";
  for (const Recipe recipe : {Recipe::exact, Recipe::epilogue}) {
    const ModelBlock block = ours(x, 1, recipe);
    EXPECT_EQ(block.scale, 0);
    EXPECT_EQ(block.codes[0], 7);
    EXPECT_EQ(block.codes[1], 15);
    EXPECT_EQ(block.codes[2], 0);
  }
}

TEST(Nvfp4, ReciprocalFlushesSubnormals) {
  EXPECT_EQ(formats::reciprocal_ftz(4), 0.25F);
  EXPECT_EQ(formats::reciprocal_ftz(0), kInf);
  EXPECT_EQ(formats::reciprocal_ftz(-0.0F), -kInf);
  EXPECT_EQ(formats::reciprocal_ftz(1e-40F), kInf);
  EXPECT_EQ(formats::reciprocal_ftz(kMax), 0.0F);
  EXPECT_EQ(formats::reciprocal_ftz(kInf), 0.0F);
}

TEST(Nvfp4, GlobalScaleIsNormalAndItsReciprocalFinite) {
  EXPECT_EQ(formats::nvfp4_global_scale(0), 1.0F);
  EXPECT_EQ(formats::nvfp4_global_scale(2688), 1.0F);
  for (const float max : {1e-45F, 1e-38F, 1.0F, kMax}) {
    const float scale = formats::nvfp4_global_scale(max);
    EXPECT_TRUE(std::isnormal(scale) && std::isfinite(1 / scale)) << max;
  }
}

QuantizeNvfp4Args op_args(const Tensor& x, Tensor& codes, std::vector<std::uint8_t>& scales,
                          ScaleLayout layout) {
  codes = Tensor(DType::f4_e2m1, x.shape());
  const std::int64_t groups = x.shape()[1] / 16;
  scales.assign(static_cast<std::size_t>(scale_bytes(layout, x.shape()[0], groups)), 0xee);
  return {.x = x.view(),
          .encode_scale = 100,
          .recipe = ScaleRecipe::fast,
          .layout = layout,
          .codes = codes.view(),
          .scales = scales};
}

RC_GTEST_PROP(QuantizeNvfp4, MatchesTheModelInEveryLayoutAndType, ()) {
  const auto rows = *rc::gen::inRange<std::int64_t>(0, 20);
  const auto groups = *rc::gen::inRange<std::int64_t>(1, 7);
  const auto type = *rc::gen::element(DType::f32, DType::bf16, DType::f16);
  const auto layout = *rc::gen::element(ScaleLayout::linear, ScaleLayout::swizzled_128x4,
                                        ScaleLayout::swizzled_8x4);
  const auto recipe = *rc::gen::element(ScaleRecipe::fast, ScaleRecipe::exact);
  std::mt19937 random(*rc::gen::arbitrary<unsigned>());
  std::normal_distribution<double> normal;
  Tensor x(type, {rows, groups * 16});
  for (std::int64_t i = 0; i < x.shape().elements(); ++i)
    formats::store(type, x.data(), i, normal(random));
  Tensor codes;
  std::vector<std::uint8_t> scales;
  QuantizeNvfp4Args args = op_args(x, codes, scales, layout);
  args.recipe = recipe;
  quantize_nvfp4(args);

  std::vector<std::uint8_t> linear(static_cast<std::size_t>(rows * groups));
  unswizzle_scales(layout, 1, rows, groups, scales, linear);
  for (std::int64_t block = 0; block < rows * groups; ++block) {
    std::array<float, 16> values{};
    formats::load_run(type, x.data(), block * 16, 16, values.data());
    const ModelBlock expected =
        model(values, 100, recipe == ScaleRecipe::fast ? Recipe::fast : Recipe::exact);
    RC_ASSERT(linear[static_cast<std::size_t>(block)] == expected.scale);
    for (std::int64_t i = 0; i < 16; ++i)
      RC_ASSERT(formats::nibble(codes.as<std::uint8_t>(), block * 16 + i) ==
                expected.codes[static_cast<std::size_t>(i)]);
  }
}

void expect_refused(const QuantizeNvfp4Args& args, const std::string& argument) {
  try {
    quantize_nvfp4(args);
    ADD_FAILURE() << argument << " was accepted";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("[quantize_nvfp4] " + argument + ":"),
              std::string::npos)
        << error.what();
  }
}

TEST(QuantizeNvfp4, BadArgumentsNameTheArgument) {
  const Tensor x = Tensor::zeros(DType::f32, {2, 32});
  Tensor codes;
  std::vector<std::uint8_t> scales;
  const QuantizeNvfp4Args good = op_args(x, codes, scales, ScaleLayout::linear);
  quantize_nvfp4(good);
  QuantizeNvfp4Args bad = good;
  bad.x = {};
  expect_refused(bad, "x");
  bad.x = {x.data(), DType::i32, {2, 32}};
  expect_refused(bad, "x");
  bad.x = {x.data(), DType::f32, {4, 8}};
  expect_refused(bad, "x");
  for (const float scale : {0.0F, -1.0F, kInf, std::nanf("")}) {
    bad = good;
    bad.encode_scale = scale;
    expect_refused(bad, "encode_scale");
  }
  bad = good;
  bad.codes.dtype = DType::u8;
  expect_refused(bad, "codes");
  bad = good;
  bad.scales = good.scales.first(3);
  expect_refused(bad, "scales");
  Tensor infinite = x.clone();
  infinite.as<float>()[40] = kInf;
  bad = good;
  bad.x = infinite.view();
  expect_refused(bad, "x");
}

}  // namespace
}  // namespace switchyard::ops
