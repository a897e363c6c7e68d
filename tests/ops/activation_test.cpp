#include "ops/grouped_gemm/activation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/names.h"

namespace switchyard {
namespace {

double run(const Activation& a, double gate, double up = 0) {
  const double wide = grouped_gemm::activate(a, gate, up);
  const double narrow = grouped_gemm::activate(a, static_cast<float>(gate), static_cast<float>(up));
  EXPECT_NEAR(narrow, wide, 4e-6 * (1 + std::abs(wide))) << name(a.kind);
  return wide;
}

double run(ActivationKind kind, double gate, double up = 0) {
  return run(activation(kind), gate, up);
}

// Numbers to 6 digits, from sigmoid(1) = 0.731059, sigmoid(2) = 0.880797, sigmoid(-1) = 0.268941.
TEST(Activation, WithoutAGate) {
  EXPECT_EQ(run(ActivationKind::identity, -2.5), -2.5);
  EXPECT_EQ(run(ActivationKind::relu, -2.5), 0);
  EXPECT_EQ(run(ActivationKind::relu, 2.5), 2.5);
  EXPECT_EQ(run(ActivationKind::relu2, 3), 9);
  EXPECT_EQ(run(ActivationKind::relu2, -3), 0);
  EXPECT_NEAR(run(ActivationKind::silu, 1), 0.731059, 1e-6);
  EXPECT_NEAR(run(ActivationKind::silu, -1), -0.268941, 1e-6);
  EXPECT_NEAR(run(ActivationKind::gelu, 1), 0.841345, 1e-6);  // Phi(1)
  EXPECT_NEAR(run(ActivationKind::gelu, -1), -0.158655, 1e-6);
}

TEST(Activation, Swiglu) {
  EXPECT_NEAR(run(ActivationKind::swiglu, 1, 3), 3 * 0.731059, 3e-6);
  EXPECT_NEAR(run(ActivationKind::swiglu, 2, -0.5), 2 * 0.880797 * -0.5, 1e-6);
}

TEST(Activation, SwigluOai) {
  // sigmoid(1.702) = 0.845796; up + 1
  EXPECT_NEAR(run(ActivationKind::swiglu_oai, 1, 2), 0.845796 * 3, 3e-6);
  // gate 9 -> 7: 7 * sigmoid(11.914) = 7 * 0.9999933; up -9 -> -7, + 1 = -6
  EXPECT_NEAR(run(ActivationKind::swiglu_oai, 9, -9), -42 * 0.9999933, 1e-5);
  // a very negative gate is not clamped from below
  EXPECT_NEAR(run(ActivationKind::swiglu_oai, -9, 0), -9 / (1 + std::exp(1.702 * 9)), 1e-7);
}

TEST(Activation, SwigluClampAndStep) {
  // gate 12 -> 10: silu(10) = 9.999546; up -12 -> -10
  EXPECT_NEAR(run(ActivationKind::swiglu_clamp, 12, -12), -99.99546, 1e-5);
  EXPECT_NEAR(run(ActivationKind::swiglu_clamp, 1, 2), 2 * 0.731059, 2e-6);
  // silu(12) = 11.99993 -> 7; up 8 -> 7
  EXPECT_EQ(run(ActivationKind::swiglu_step, 12, 8), 49);
  EXPECT_NEAR(run(ActivationKind::swiglu_step, 1, -8), -7 * 0.731059, 1e-5);
}

TEST(Activation, Geglu) {
  EXPECT_NEAR(run(ActivationKind::geglu, 1, 2), 2 * 0.841345, 2e-6);
  EXPECT_NEAR(run(ActivationKind::geglu_tanh, 1, 2), 2 * 0.841192, 2e-6);
}

TEST(Activation, Situ) {
  // 4 tanh(0.25) = 0.979674, * sigmoid(1) = 0.716199; 25 tanh(2/25) = 1.995749
  EXPECT_NEAR(run(ActivationKind::situ, 1, 2), 0.716199 * 1.995749, 3e-6);
  EXPECT_NEAR(run(ActivationKind::situ, 100, 1000), 4 * 25, 1e-6);
}

TEST(Activation, OwnConstants) {
  Activation a = activation(ActivationKind::swiglu_oai);
  a.alpha = 0.5F;
  a.beta = 0;
  a.limit = 2;
  // gate 3 -> 2: 2 * sigmoid(1); up 5 -> 2
  EXPECT_NEAR(run(a, 3, 5), 2 * 0.731059 * 2, 3e-6);
}

TEST(Activation, NaNGoesThrough) {
  for (const auto& kind : activation_kinds()) {
    EXPECT_TRUE(std::isnan(grouped_gemm::activate(activation(kind.value), double{NAN}, 1.0)))
        << kind.name;
    if (activation(kind.value).gated()) {
      EXPECT_TRUE(std::isnan(grouped_gemm::activate(activation(kind.value), 1.0, double{NAN})))
          << kind.name;
    }
  }
}

TEST(Names, AreDistinctAndComplete) {
  for (const auto& entry : routing_methods()) EXPECT_EQ(name(entry.value), entry.name);
  EXPECT_EQ(routing_methods().size(), std::size_t(RoutingMethod::load_balanced) + 1);
  EXPECT_EQ(activation_kinds().size(), std::size_t(ActivationKind::situ) + 1);
  EXPECT_EQ(activation_formats().size(), std::size_t(ActivationFormat::mxfp8) + 1);
}

}  // namespace
}  // namespace switchyard
