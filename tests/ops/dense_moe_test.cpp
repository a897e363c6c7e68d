#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "base/random.h"
#include "formats/convert.h"
#include "moe/reference.h"
#include "switchyard/error.h"
#include "switchyard/ops.h"
#include "tests/ops/dense_moe_data.h"
#include "tests/support/tiny.h"

namespace switchyard {
namespace {

using tiny::floats;
using tiny::ints;

using testing::integers;
using testing::kDenseScales;
using testing::quantised;
using testing::Quantised;

std::vector<float> values(const Tensor& t) {
  return {t.as<float>(), t.as<float>() + t.shape().elements()};
}

Tensor random(Shape shape, std::uint64_t seed, float deviation) {
  Tensor tensor(DType::f32, shape);
  const Random numbers(seed);
  for (std::int64_t i = 0; i < shape.elements(); ++i)
    tensor.as<float>()[i] = deviation * numbers.normal(static_cast<std::uint64_t>(i));
  return tensor;
}

TEST(Fc2Alpha, ScattersAndOverwrites) {
  const Tensor ids = ints({2, 2}, {2, 0, 1, 1}), weights = floats({2, 2}, {1, 2, 3, 4});
  const Tensor alpha = floats({3}, {10, 20, 40});
  Tensor out(DType::f32, {2, 3}), transposed(DType::f32, {3, 2});
  ops::fc2_alpha({ids.view(), weights.view(), alpha.view(), 0, false, out.view()});
  EXPECT_EQ(values(out), (std::vector<float>{20, 0, 40, 0, 80, 0}));
  ops::fc2_alpha({ids.view(), weights.view(), alpha.view(), 40, true, transposed.view()});
  EXPECT_EQ(values(transposed), (std::vector<float>{0.5F, 0, 0, 2, 1, 0}));
}

TEST(Fc2Alpha, RefusesIdsWithoutAnExpert) {
  const Tensor ids = ints({1, 1}, {3}), weights = floats({1, 1}, {1});
  const Tensor alpha = floats({3}, {1, 1, 1});
  Tensor out(DType::f32, {1, 3});
  EXPECT_THROW(ops::fc2_alpha({ids.view(), weights.view(), alpha.view(), 0, false, out.view()}),
               InvalidArgument);
}

/// A layer of E experts and its dense form: x scale s1, intermediate scale s2, all static.
struct Dense {
  static constexpr int kTokens = 9, kHidden = 64, kIntermediate = 32, kExperts = 4, kTopK = 2;
  tiny::Layer layer;
  float s1 = 4.0F / 2688, s2 = 8.0F / 2688;

  Dense() {
    MoeConfig& c = layer.config;
    c.hidden = kHidden;
    c.intermediate = kIntermediate;
    c.experts = kExperts;
    c.top_k = kTopK;
    c.act = ActivationFormat::nvfp4;
    const WeightFormat nvfp4 = weight_format("nvfp4");
    ExpertWeights& e = layer.weights.experts;
    e.gate_up = quantize(random({kExperts, 2 * kIntermediate, kHidden}, 1, 0.125F).view(), nvfp4);
    e.down = quantize(random({kExperts, kHidden, kIntermediate}, 2, 0.2F).view(), nvfp4);
    e.gate_up.input_scale = floats({1}, {s1});
    e.down.input_scale = floats({1}, {s2});
    layer.tokens = random({kTokens, kHidden}, 3, 1);
    for (std::int64_t i = 0; i < kTokens * kHidden; ++i)
      formats::store(DType::f32, layer.tokens.data(), i,
                     std::round(layer.tokens.as<float>()[i] * 64) / 64);
    std::vector<std::int32_t> ids;
    std::vector<float> weights;
    for (int t = 0; t < kTokens; ++t)
      for (int j = 0; j < kTopK; ++j) {
        ids.push_back((t + 2 * j) % kExperts);
        weights.push_back(0.2F + 0.05F * static_cast<float>(t + j));
      }
    layer.ids = ints({kTokens, kTopK}, ids);
    layer.slot_weights = floats({kTokens, kTopK}, weights);
  }

  Tensor alpha(const ExpertMatrix& matrix, float input_scale) const {
    Tensor a(DType::f32, {kExperts});
    for (int e = 0; e < kExperts; ++e)
      a.as<float>()[e] = matrix.global_scale.as<float>()[e] * input_scale;
    return a;
  }

  std::vector<double> run(bool fused, bool token_major) const {
    const ExpertWeights& experts = layer.weights.experts;
    const Quantised x = quantised(layer.tokens, 1 / s1);
    const Tensor alpha1 = alpha(experts.gate_up, s1), alpha2 = alpha(experts.down, s2);
    const std::vector<float> a = values(alpha2);
    const float largest = *std::max_element(a.begin(), a.end());
    Tensor scatter(DType::f32,
                   token_major && !fused ? Shape{kExperts, kTokens} : Shape{kTokens, kExperts});
    ops::fc2_alpha({layer.ids.view(), layer.slot_weights.view(), alpha2.view(), fused ? largest : 0,
                    token_major && !fused, scatter.view()});

    constexpr std::int64_t kWidth = kExperts * kIntermediate;
    Tensor y(DType::f4_e2m1, {kTokens, kWidth}), out(DType::f32, {kTokens, kHidden});
    std::vector<std::uint8_t> y_scales(
        static_cast<std::size_t>(ops::scale_bytes(kDenseScales, kTokens, kWidth / 16)));
    ops::DenseFc1Args fc1{.x = x.codes.view(),
                          .x_scales = x.scales,
                          .weights = &experts.gate_up,
                          .alpha = alpha1.view(),
                          .alpha_post = {},
                          .norm_const = 1 / s2,
                          .out = y.view(),
                          .out_scales = y_scales};
    if (fused) fc1.alpha_post = scatter.view();
    ops::dense_fc1(fc1);
    const Tensor same =
        floats({kTokens, kExperts}, std::vector<float>(kTokens * kExperts, largest));
    ops::dense_fc2({.x = y.view(),
                    .x_scales = y_scales,
                    .weights = &experts.down,
                    .alpha = fused ? same.view() : scatter.view(),
                    .token_major = token_major && !fused,
                    .out = out.view()});
    const std::vector<float> narrow = values(out);
    return {narrow.begin(), narrow.end()};
  }
};

double relative_rms(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

// The ops in a row are the layer: they differ by the last bit of block multipliers (spec 1.2, 1.3).
TEST(DenseMoe, IsTheLayer) {
  Dense dense;
  const std::vector<double> layer = dense.layer.run().out;
  EXPECT_LT(relative_rms(dense.run(false, false), layer), 0.02);
  EXPECT_EQ(dense.run(false, true), dense.run(false, false));
  dense.layer.config.fused_alpha = true;
  const std::vector<double> fused = dense.layer.run().out;
  EXPECT_LT(relative_rms(dense.run(true, false), fused), 0.02);
  EXPECT_LT(relative_rms(fused, layer), 0.15);
}

// Codes within one step and scale bytes within one for more than 95 %, as spec 10.1 asks.
TEST(DenseFc1, QuantisedOutputIsTheWideOneQuantised) {
  for (const bool post : {false, true}) {
    constexpr std::int64_t kTokens = 8, kHidden = 256, kIntermediate = 128, kExperts = 2;
    constexpr std::int64_t kWidth = kExperts * kIntermediate;
    const ExpertMatrix weights =
        quantize(integers({kExperts, 2 * kIntermediate, kHidden}, 4).view(), weight_format("nvfp4"),
                 1, ScaleRecipe::fast);
    const Quantised x = quantised(integers({kTokens, kHidden}, 5), 2688.0F / 5);
    std::vector<float> alpha;
    for (int e = 0; e < kExperts; ++e)
      alpha.push_back(weights.global_scale.as<float>()[e] * 5 / 2688);
    const Tensor alphas = floats({kExperts}, alpha);
    const Tensor posts = random({kTokens, kExperts}, 6, 0.1F);
    Tensor wide(DType::f32, {kTokens, kWidth}), narrow(DType::f4_e2m1, {kTokens, kWidth});
    ops::DenseFc1Args args{.x = x.codes.view(),
                           .x_scales = x.scales,
                           .weights = &weights,
                           .alpha = alphas.view(),
                           .alpha_post = {},
                           .norm_const = 1,
                           .out = wide.view(),
                           .out_scales = {}};
    if (post) args.alpha_post = posts.view();
    ops::dense_fc1(args);
    float largest = 0;
    for (const float v : values(wide)) largest = std::max(largest, std::abs(v));
    const Quantised expected = quantised(wide, 2688 / largest);
    std::vector<std::uint8_t> scales(expected.scales.size());
    args.norm_const = 2688 / largest;
    args.out = narrow.view();
    args.out_scales = scales;
    ops::dense_fc1(args);
    int codes = 0, bytes = 0;
    for (std::int64_t i = 0; i < kTokens * kWidth; ++i) {
      const double a = formats::load(DType::f4_e2m1, narrow.data(), i);
      const double b = formats::load(DType::f4_e2m1, expected.codes.data(), i);
      codes += std::abs(a - b) <= std::max(0.5, std::abs(b) / 2) ? 1 : 0;
    }
    for (std::size_t i = 0; i < scales.size(); ++i)
      bytes += std::abs(scales[i] - expected.scales[i]) <= 1 ? 1 : 0;
    EXPECT_GT(codes, 0.95 * kTokens * kWidth);
    EXPECT_GT(bytes, 0.95 * static_cast<double>(scales.size()));
  }
}

/// What fused alpha makes of experts that a token did not choose.
TEST(DenseFc1, APostOfZeroGivesZeros) {
  const Dense dense;
  const Quantised x = quantised(dense.layer.tokens, 1 / dense.s1);
  const Tensor alpha = floats({4}, {1, 1, 1, 1});
  std::vector<float> posts(9 * 4, 0);
  posts[5] = 1;  // token 1, expert 1
  const Tensor post = floats({9, 4}, posts);
  Tensor out(DType::f4_e2m1, {9, 128});
  std::vector<std::uint8_t> scales(static_cast<std::size_t>(ops::scale_bytes(kDenseScales, 9, 8)));
  ops::dense_fc1({.x = x.codes.view(),
                  .x_scales = x.scales,
                  .weights = &dense.layer.weights.experts.gate_up,
                  .alpha = alpha.view(),
                  .alpha_post = post.view(),
                  .norm_const = 1,
                  .out = out.view(),
                  .out_scales = scales});
  int others = 0;
  for (std::int64_t i = 0; i < 9 * 128; ++i) {
    const double value = formats::load(DType::f4_e2m1, out.data(), i);
    if (i / 128 == 1 && i % 128 / 32 == 1)
      others += value != 0 ? 1 : 0;
    else
      EXPECT_EQ(value, 0) << i;
  }
  EXPECT_GT(others, 0);
}

TEST(DenseFc1, RefusesWhatDoesNotFit) {
  Dense dense;
  const Quantised x = quantised(dense.layer.tokens, 1);
  const Tensor alpha = floats({4}, {1, 1, 1, 1});
  Tensor out(DType::bf16, {9, 128});
  ops::DenseFc1Args args{.x = x.codes.view(),
                         .x_scales = x.scales,
                         .weights = &dense.layer.weights.experts.gate_up,
                         .alpha = alpha.view(),
                         .alpha_post = {},
                         .norm_const = 1,
                         .out = out.view(),
                         .out_scales = {}};
  EXPECT_NO_THROW(ops::dense_fc1(args));
  args.x_scales = args.x_scales.subspan(1);
  EXPECT_THROW(ops::dense_fc1(args), InvalidArgument);
  args.x_scales = x.scales;
  Tensor wrong(DType::i32, {9, 128});
  args.out = wrong.view();
  EXPECT_THROW(ops::dense_fc1(args), InvalidArgument);
  args.out = out.view();
  args.weights = nullptr;
  EXPECT_THROW(ops::dense_fc1(args), InvalidArgument);
}

}  // namespace
}  // namespace switchyard
