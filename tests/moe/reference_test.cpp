// The definition against numbers worked out by hand.

#include "moe/reference.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/tiny.h"

namespace switchyard {
namespace {

using tiny::floats;
using tiny::ints;
using tiny::matrix;
using tiny::one_by_one;

TEST(Reference, TwoExpertsByHand) {
  // e0: up (1 2), down (1 -1)^T;  e1: up (0 1), down (2 0)^T;  x = (3 1), weights 1/2 and 1/4
  // e0: h = 5, o = (5 -5);  e1: h = 1, o = (2 0);  out = (2.5 + 0.5, -2.5)
  tiny::Layer layer;
  layer.config = {.hidden = 2,
                  .intermediate = 1,
                  .experts = 2,
                  .top_k = 2,
                  .routing = {},
                  .activation = {.kind = ActivationKind::identity},
                  .act = ActivationFormat::f32,
                  .expert_map = {}};
  layer.weights.experts.gate_up = matrix({2, 1, 2}, {1, 2, 0, 1});
  layer.weights.experts.down = matrix({2, 2, 1}, {1, -1, 2, 0});
  layer.tokens = floats({1, 2}, {3, 1});
  layer.ids = ints({1, 2}, {0, 1});
  layer.slot_weights = floats({1, 2}, {0.5F, 0.25F});
  EXPECT_EQ(layer.run().out, (std::vector<double>{3, -2.5}));
}

TEST(Reference, GateComesFirst) {
  // silu(1) * 3 * 2 = 0.731059 * 6; the other order would give silu(3) * 1 * 2 = 5.7
  EXPECT_NEAR(one_by_one(ActivationKind::swiglu, 1, {0}, {1}).run().out[0], 4.386352, 2e-6);
}

TEST(Reference, BiasesBeforeActivationAndBeforeTheRouterWeight) {
  // relu2: (1 * 2 + 1)^2 = 9, * 2 + 5 = 23, * 0.5
  auto layer = one_by_one(ActivationKind::relu2, 2, {0}, {0.5F});
  layer.weights.experts.gate_up.bias = floats({2, 1}, {1, 0});
  layer.weights.experts.down.bias = floats({2, 1}, {5, 0});
  EXPECT_EQ(layer.run().out[0], 11.5);
}

TEST(Reference, RouterWeightOnInput) {
  // (0.5 * 2)^2 * 2 = 2, not 0.5 * 2^2 * 2 = 4
  auto layer = one_by_one(ActivationKind::relu2, 2, {0}, {0.5F});
  EXPECT_EQ(layer.run().out[0], 4);
  layer.config.router_weight_on_input = true;
  EXPECT_EQ(layer.run().out[0], 2);
}

TEST(Reference, InputFactorsMultiplyTheInputs) {
  // (3 * 2)^2 = 36, * 0.5 = 18, * 2 = 36
  auto layer = one_by_one(ActivationKind::relu2, 2, {0}, {1});
  layer.weights.experts.gate_up.input_factor = floats({1, 1}, {3});
  layer.weights.experts.down.input_factor = floats({2, 1}, {0.5F, 9});
  EXPECT_EQ(layer.run().out[0], 36);
}

TEST(Reference, SharedExpert) {
  // routed 2 * 2 = 4 (identity), shared 2 * 5 * 7 = 70
  auto layer = one_by_one(ActivationKind::identity, 2, {0}, {1});
  layer.config.shared_intermediate = 1;
  layer.weights.shared.gate_up = matrix({1, 1, 1}, {5});
  layer.weights.shared.down = matrix({1, 1, 1}, {7});
  EXPECT_EQ(layer.run().out[0], 74);
  // the router weight on the input is none of its business
  layer.config.router_weight_on_input = true;
  layer.slot_weights = floats({1, 1}, {0.5F});
  EXPECT_EQ(layer.run().out[0], 72);
  // sigmoid(0.5 * 2) = 0.731059
  layer.config.shared_gate = true;
  layer.weights.shared_gate = floats({1}, {0.5F});
  EXPECT_NEAR(layer.run().out[0], 2 + 70 * 0.731059, 1e-4);
}

TEST(Reference, LatentExperts) {
  // x = (1 2), down rows (1 0), (1 1): v = (1 3); identity experts double: y = 0.5 * (2 6) = (1 3)
  // rmsnorm: mean square 5: (1 3) / sqrt(5), gains (1 2); up row (1 1): 7 / sqrt(5)
  tiny::Layer layer;
  layer.config = {.hidden = 2,
                  .latent = 2,
                  .intermediate = 2,
                  .experts = 1,
                  .top_k = 1,
                  .routing = {},
                  .activation = {.kind = ActivationKind::identity},
                  .act = ActivationFormat::f32,
                  .norm_epsilon = 0,
                  .expert_map = {}};
  layer.weights.experts.gate_up = matrix({1, 2, 2}, {2, 0, 0, 2});
  layer.weights.experts.down = matrix({1, 2, 2}, {1, 0, 0, 1});
  layer.weights.latent_down = floats({2, 2}, {1, 0, 1, 1});
  layer.weights.latent_up = floats({2, 2}, {1, 1, 1, -1});
  layer.tokens = floats({1, 2}, {1, 2});
  layer.ids = ints({1, 1}, {0});
  layer.slot_weights = floats({1, 1}, {0.5F});
  EXPECT_EQ(layer.run().out, (std::vector<double>{4, -2}));
  layer.weights.latent_norm = floats({2}, {1, 2});
  EXPECT_NEAR(layer.run().out[0], 7 / std::sqrt(5), 1e-12);
  EXPECT_NEAR(layer.run().out[1], -5 / std::sqrt(5), 1e-12);
}

TEST(Reference, LeavesSlotsOutAndCounts) {
  // identity: expert e gives x * 2 (e + 1); only slot 1 (expert 1, weight 1) counts
  auto layer = one_by_one(ActivationKind::identity, 1, {-1, 1, 7, -2, 0}, {9, 1, 9, 9, NAN});
  const moe::Reference reference = layer.run();
  EXPECT_EQ(reference.out[0], 4);
  EXPECT_EQ(reference.routed.counters.bad_expert_ids, 2);
  EXPECT_EQ(reference.routed.counters.non_finite_weights, 1);
}

TEST(Reference, ExpertMap) {
  // global experts 0..3; this rank has 3 as local 0 and 1 as local 1
  auto layer = one_by_one(ActivationKind::identity, 1, {0, 1, 3}, {1, 1, 10});
  layer.config.experts = 4;
  layer.config.expert_map = {-1, 1, -1, 0};
  EXPECT_EQ(layer.run().out[0], 4 + 10 * 2);
}

TEST(Reference, ZeroExpertsReturnTheirInput) {
  auto layer = one_by_one(ActivationKind::identity, 5, {0, 2, 3}, {1, 0.5F, 0.25F});
  layer.config.routing.zero_experts = 2;
  EXPECT_EQ(layer.run().out[0], 10 + 2.5 + 1.25);
  layer.config.expert_map = {0, 1, -1, -1};  // another rank adds them
  EXPECT_EQ(layer.run().out[0], 10);
}

TEST(Reference, RoutesGivenLogitsAndItsOwn) {
  // softmax_renormalize of (0 ln 3): weights 3/4 for expert 1, 1/4 for expert 0
  auto layer = one_by_one(ActivationKind::identity, 1, {0, 0}, {0, 0});
  MoeBuffers inputs = layer.inputs();
  const Tensor logits = floats({1, 2}, {0, std::log(3.F)});
  inputs.expert_ids = inputs.expert_weights = {};
  inputs.router_logits = logits.view();
  const auto given = moe::reference(layer.config, layer.weights, inputs, moe::Rounding::exact);
  EXPECT_EQ(given.routed.ids, (std::vector<std::int32_t>{1, 0}));
  EXPECT_NEAR(given.out[0], 0.75 * 4 + 0.25 * 2, 1e-6);
  inputs.router_logits = {};
  layer.weights.router = floats({2, 1}, {1, 1});
  layer.weights.router_bias = floats({2}, {0, std::log(3.F)});
  const auto own = moe::reference(layer.config, layer.weights, inputs, moe::Rounding::exact);
  EXPECT_NEAR(own.out[0], 3.5, 1e-6);
}

TEST(Reference, DenseKeepsTheLastOfARepeatedId) {
  auto layer = one_by_one(ActivationKind::identity, 1, {0, 0}, {1, 10});
  EXPECT_EQ(layer.run().out[0], 22);
  layer.config.dense = true;
  EXPECT_EQ(layer.run().out[0], 20);
}

TEST(Reference, HonestRoundsWhereKernelsDo) {
  // 1 + 2^-9 is not a bf16: exact keeps it, honest rounds the input to 1
  auto layer = one_by_one(ActivationKind::identity, 1 + 0x1p-9F, {0}, {1});
  layer.config.act = ActivationFormat::bf16;
  EXPECT_EQ(layer.run().out[0], 2 * (1 + 0x1p-9));
  EXPECT_EQ(layer.run(moe::Rounding::honest).out[0], 2);
  // the intermediate 1.5 * 1.0078125^2 needs 16 bits
  layer = one_by_one(ActivationKind::relu2, 1.0078125F, {0}, {1});
  layer.config.act = ActivationFormat::bf16;
  EXPECT_EQ(layer.run().out[0], 2 * 1.0078125 * 1.0078125);
  EXPECT_EQ(layer.run(moe::Rounding::honest).out[0], 2 * 1.015625);
}

}  // namespace
}  // namespace switchyard
