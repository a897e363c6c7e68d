// What GEMM inputs are rounded to, and the two places of alpha (spec 4.2).

#include <gtest/gtest.h>

#include <cmath>

#include "moe/closeness.h"
#include "moe/reference.h"
#include "moe/semantics.h"
#include "switchyard/problem.h"
#include "tests/support/tiny.h"

namespace switchyard {
namespace {

using moe::Rounding;
using tiny::floats;

/// Identity layers of FP8 weights 1 (2 for down), so that inputs are quantised.
tiny::Layer fp8_layer(ActivationFormat act, const std::vector<float>& tokens) {
  tiny::Layer layer = tiny::one_by_one(ActivationKind::identity, 0, {0}, {1}, 1);
  layer.config.act = act;
  for (ExpertMatrix* m : {&layer.weights.experts.gate_up, &layer.weights.experts.down})
    *m = quantize(m->elements.view(), weight_format("fp8_channel"));
  const auto count = static_cast<std::int64_t>(tokens.size());
  layer.tokens = floats({count, 1}, tokens);
  layer.ids = Tensor::zeros(DType::i32, {count, 1});
  layer.slot_weights = floats({count, 1}, std::vector<float>(tokens.size(), 1));
  return layer;
}

TEST(ActivationFormat, StaticScaleIsTheLargestOfTheExperts) {
  // scales 1 and 2: 500 / 2 = 250 -> 256 (steps of 16), * 2 = 512. Scale 1 would saturate at 448.
  tiny::Layer layer = fp8_layer(ActivationFormat::fp8_tensor, {500});
  layer.weights.experts.gate_up.input_scale = floats({2}, {1, 2});
  layer.weights.experts.down.input_scale = floats({1}, {4});
  EXPECT_NEAR(layer.run().out[0], 1024, 1e-3);
}

TEST(ActivationFormat, BothGemmInputsAreRounded) {
  // 17 has 5 bits, E4M3 has 4: a tie, to the even 16; scale 1 at the first GEMM, exact at the
  // second
  tiny::Layer layer = fp8_layer(ActivationFormat::fp8_tensor, {17});
  layer.weights.experts.gate_up.input_scale = floats({1}, {1});
  layer.weights.experts.down.input_scale = floats({1}, {1});
  EXPECT_NEAR(layer.run().out[0], 32, 1e-4);
  // 20 = 5 * 4 passes the first; a down scale of 3 does not hold it: 6.67 -> 6.5, * 3 = 19.5
  layer = fp8_layer(ActivationFormat::fp8_tensor, {20});
  layer.weights.experts.gate_up.input_scale = floats({1}, {1});
  layer.weights.experts.down.input_scale = floats({1}, {3});
  EXPECT_NEAR(layer.run().out[0], 39, 1e-4);
}

TEST(ActivationFormat, WithoutAStaticScaleRowsAreIndependent) {
  for (const auto act : {ActivationFormat::fp8_tensor, ActivationFormat::fp8_token,
                         ActivationFormat::fp8_block, ActivationFormat::nvfp4}) {
    const double alone = fp8_layer(act, {0.37F}).run().out[0];
    const auto together = fp8_layer(act, {0.37F, 1000.F}).run().out;
    EXPECT_EQ(together[0], alone) << name(act);
    EXPECT_NEAR(alone, 0.74, 1e-3) << name(act);
  }
}

TEST(ActivationFormat, UnquantisedWeightsKeepTheirInputs) {
  tiny::Layer layer = tiny::one_by_one(ActivationKind::identity, 17, {0}, {1});
  layer.config.act = ActivationFormat::fp8_tensor;
  layer.weights.experts.gate_up.input_scale = floats({1}, {1});
  EXPECT_EQ(layer.run().out[0], 34);
}

std::vector<double> output(const MoeCase& c, Rounding rounding) {
  MoeBuffers inputs;
  inputs.tokens = c.tokens.view();
  inputs.router_logits = c.router_logits.view();
  inputs.input_ids = c.input_ids.view();
  inputs.out = {nullptr, DType::bf16, c.tokens.shape()};
  return moe::reference(c.config, c.weights, inputs, rounding).out;
}

double relative_rms(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

// Acceptance point 5: both agree with the layer of unquantised activations as well as NVFP4 can,
// and with each other.
TEST(FusedAlpha, AgreesWithUnfused) {
  const std::string line = "moe t16 h128 i64 e8 k2 nvfp4 swiglu softmax_renormalize ";
  const auto plain = output(make_case(parse_problem(line + "act=bf16"), 3), Rounding::exact);
  const auto unfused = output(make_case(parse_problem(line + "act=nvfp4"), 3), Rounding::exact);
  const auto fused =
      output(make_case(parse_problem(line + "act=nvfp4 fused_alpha"), 3), Rounding::exact);
  EXPECT_LT(relative_rms(unfused, plain), 0.2);
  EXPECT_LT(relative_rms(fused, plain), 0.2);
  EXPECT_LT(relative_rms(fused, unfused), 0.2);
  EXPECT_GT(relative_rms(fused, unfused), 0) << "the quantisation point did not move";
}

TEST(FusedAlpha, IsExactWithoutRounding) {
  // down scales 1 and 3 (largest): the factors 1/3 and 1 must cancel; fp8 activations of weights
  // that are not quantised are left alone, so nothing is rounded
  tiny::Layer layer = tiny::one_by_one(ActivationKind::identity, 5, {0, 1}, {0.5F, 0.25F});
  layer.config.act = ActivationFormat::nvfp4;
  ExpertMatrix& down = layer.weights.experts.down;
  down.global_scale = floats({2, 1}, {1, 3});
  down.bias = floats({2, 1}, {10, 100});
  const double unfused = layer.run().out[0];
  EXPECT_EQ(unfused, 0.5 * (5 * 2 + 10) + 0.25 * (5 * 4 * 3 + 100));
  layer.config.fused_alpha = true;
  EXPECT_NEAR(layer.run().out[0], unfused, 1e-12);
}

TEST(Dense, EqualsGrouped) {
  for (const char* options : {"act=bf16", "act=nvfp4", "act=nvfp4 fused_alpha", "shared=64"}) {
    const std::string line = std::string("moe t9 h128 i64 e8 k3 nvfp4 swiglu softmax ") + options;
    EXPECT_EQ(output(make_case(parse_problem(line), 5), Rounding::exact),
              output(make_case(parse_problem(line + " dense"), 5), Rounding::exact))
        << line;
  }
}

}  // namespace
}  // namespace switchyard
