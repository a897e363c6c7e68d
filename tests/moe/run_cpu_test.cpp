// What MoePlan::run promises beyond the right numbers, which check_test.cpp compares.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "moe/plan.h"
#include "moe/reference.h"
#include "switchyard/error.h"
#include "switchyard/problem.h"
#include "tests/support/allocations.h"

namespace switchyard {
namespace {

/// One call's buffers, filled with a poison that no run may let through.
struct Call {
  Tensor out, ids, weights, workspace;

  Call(const MoePlan& plan, const MoeConfig& config, std::int64_t tokens, int poison = 0xD5)
      : out(DType::bf16, {tokens, config.hidden}),
        ids(DType::i32, {tokens, config.top_k}),
        weights(DType::f32, {tokens, config.top_k}),
        workspace(DType::u8, {static_cast<std::int64_t>(plan.workspace_bytes())}) {
    for (Tensor* tensor : {&out, &ids, &weights, &workspace})
      std::memset(tensor->data(), poison, static_cast<std::size_t>(tensor->bytes()));
  }
  MoeBuffers buffers(const MoeCase& c) {
    MoeBuffers b;
    b.tokens = c.tokens.view();
    b.router_logits = c.router_logits.view();
    b.input_ids = c.input_ids.view();
    b.out = out.view();
    b.chosen_ids = ids.view();
    b.chosen_weights = weights.view();
    b.workspace = {workspace.as<std::byte>(), static_cast<std::size_t>(workspace.bytes())};
    return b;
  }
  std::string bits() const {
    std::string all;
    for (const Tensor* tensor : {&out, &ids, &weights})
      all.append(static_cast<const char*>(tensor->data()),
                 static_cast<std::size_t>(tensor->bytes()));
    return all;
  }
};

constexpr const char* kLines[] = {
    "moe t21 h160 i96 e8 k3 nvfp4 shared=64 shared_gate",
    "moe t21 h128 i256 e8 k2 nvfp4 act=nvfp4 fused_alpha",
    "moe t21 h128 latent=64 i96 e8 k2 mxfp4 deepseek_v3 groups=2 zero_experts=2 bias",
    "moe t21 h128 i64 e8 k2 int4_g32_zp on_input=1 routing_load=hot",
    "moe t21 h128 i64 e8 k2 fp8_channel act=fp8_token hash",
};

TEST(RunCpu, GivesTheSameBitsAtAnyThreadCountAndOverAnyPoison) {
  for (const char* line : kLines) {
    SCOPED_TRACE(line);
    std::string first;
    for (const int threads : {1, 2, 3, 7}) {
      MoeCase c = make_case(parse_problem(line), 5);
      const MoeLayer layer(c.config, std::move(c.weights), Device::cpu(threads));
      const MoePlan plan = layer.plan(32);
      for (const int poison : {0xD5, 0x2A, 0xFF}) {
        Call call(plan, layer.config(), 21, poison);
        plan.run(call.buffers(c));
        if (first.empty()) first = call.bits();
        EXPECT_TRUE(first == call.bits()) << threads << " threads, poison " << poison;
      }
    }
  }
}

TEST(RunCpu, AllocatesNothing) {
  for (const char* line : kLines) {
    SCOPED_TRACE(line);
    MoeCase c = make_case(parse_problem(line), 5);
    const MoeLayer layer(c.config, std::move(c.weights), Device::cpu(2));
    const MoePlan plan = layer.plan(21);
    Call call(plan, layer.config(), 21);
    const MoeBuffers buffers = call.buffers(c);
    const std::int64_t before = testing::allocations();
    plan.run(buffers);
    EXPECT_EQ(testing::allocations() - before, 0);
  }
}

TEST(RunCpu, ServesCallersAtOnceWithWorkspacesOfTheirOwn) {
  MoeCase c = make_case(parse_problem(kLines[0]), 5);
  const MoeLayer layer(c.config, std::move(c.weights), Device::cpu(2));
  const MoePlan plan = layer.plan(21);
  Call alone(plan, layer.config(), 21);
  plan.run(alone.buffers(c));
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] {
      for (int round = 0; round < 5; ++round) {
        Call call(plan, layer.config(), 21);
        plan.run(call.buffers(c));
        EXPECT_TRUE(call.bits() == alone.bits());
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST(RunCpu, EveryVariantOfTheGemmAgreesWithTheOthers) {
  for (const char* line : kLines) {
    SCOPED_TRACE(line);
    MoeCase c = make_case(parse_problem(line), 5);
    MoeState state;
    state.config = c.config;
    state.weights = std::move(c.weights);
    state.device = Device::cpu(2);
    state.pool = std::make_unique<ThreadPool>(2);
    std::vector<float> first;
    for (const grouped_gemm::Isa isa : {grouped_gemm::Isa::baseline, grouped_gemm::best_isa()}) {
      for (const auto method : {grouped_gemm::Method::f32, grouped_gemm::Method::automatic}) {
        const PlanState plan = moe::make_plan(state, 21, {isa, method});
        Tensor out(DType::f32, {21, c.config.hidden});
        Tensor workspace(DType::u8, {static_cast<std::int64_t>(plan.workspace_bytes)});
        MoeBuffers b;
        b.tokens = c.tokens.view();
        b.router_logits = c.router_logits.view();
        b.input_ids = c.input_ids.view();
        b.out = out.view();
        b.workspace = {workspace.as<std::byte>(), plan.workspace_bytes};
        moe::run_cpu(state, plan, b);
        const float* values = out.as<float>();
        if (first.empty()) first.assign(values, values + out.shape().elements());
        double scale = 0, worst = 0;
        for (std::size_t i = 0; i < first.size(); ++i) {
          scale = std::max(scale, static_cast<double>(std::abs(first[i])));
          worst = std::max(worst, static_cast<double>(std::abs(first[i] - values[i])));
        }
        // A rounding of the intermediate may fall the other way: one step of its format.
        EXPECT_LE(worst, scale * 0.05) << grouped_gemm::name(isa);
        EXPECT_GT(scale, 0);
      }
    }
  }
}

TEST(RunCpu, LeavesOutBadIdsAndWeightsAndCountsThem) {
  MoeCase c = make_case(parse_problem("moe t4 h64 i32 e4 k2 bf16"), 5);
  const MoeLayer layer(c.config, std::move(c.weights), Device::cpu(1));
  const MoePlan plan = layer.plan(4);
  Tensor ids(DType::i32, {4, 2}), weights(DType::f32, {4, 2});
  const std::int32_t given[] = {0, 9, -7, 1, -1, -1, 2, 3};
  const float given_weights[] = {1, 1, 1, 1, 1, NAN, INFINITY, 0.5F};
  std::memcpy(ids.data(), given, sizeof(given));
  std::memcpy(weights.data(), given_weights, sizeof(given_weights));
  Call call(plan, layer.config(), 4);
  MoeBuffers b = call.buffers(c);
  b.router_logits = {};
  b.expert_ids = ids.view();
  b.expert_weights = weights.view();
  const MoeCounters counters = plan.run(b);
  EXPECT_EQ(counters.bad_expert_ids, 2);
  EXPECT_EQ(counters.non_finite_weights, 1);
  const std::int32_t expected[] = {0, -1, -1, 1, -1, -1, 2, 3};
  EXPECT_EQ(std::memcmp(call.ids.data(), expected, sizeof(expected)), 0);
  for (int h = 0; h < 64; ++h) EXPECT_EQ(call.out.as<std::uint16_t>()[2 * 64 + h], 0) << h;
}

TEST(RunCpu, RoutesByItsOwnRouterWithoutLogits) {
  MoeCase c = make_case(parse_problem("moe t9 h64 i32 e6 k2 bf16"), 5);
  c.weights.router = Tensor(DType::f32, {6, 64});
  c.weights.router_bias = Tensor(DType::f32, {6});
  for (int i = 0; i < 6 * 64; ++i)
    c.weights.router.as<float>()[i] = static_cast<float>(i * 37 % 101) * 0.01F - 0.5F;
  for (int e = 0; e < 6; ++e) c.weights.router_bias.as<float>()[e] = static_cast<float>(e) * 0.5F;
  MoeBuffers inputs;
  inputs.tokens = c.tokens.view();
  const moe::Routed expected =
      moe::reference_route(c.config, c.weights, inputs, moe::Rounding::exact);
  const MoeLayer layer(c.config, std::move(c.weights), Device::cpu(2));
  const MoePlan plan = layer.plan(9);
  Call call(plan, layer.config(), 9);
  MoeBuffers b = call.buffers(c);
  b.router_logits = {};
  plan.run(b);
  for (std::size_t i = 0; i < expected.ids.size(); ++i) {
    EXPECT_EQ(call.ids.as<std::int32_t>()[i], expected.ids[i]) << i;
    EXPECT_NEAR(call.weights.as<float>()[i], expected.weights[i], 1e-5) << i;
  }
}

TEST(RunCpu, NoTokensWriteNothing) {
  MoeCase c = make_case(parse_problem(kLines[0]), 5);
  const MoeLayer layer(c.config, std::move(c.weights), Device::cpu(2));
  const MoePlan plan = layer.plan(0);
  EXPECT_EQ(plan.max_tokens(), 0);
  MoeBuffers b;
  b.tokens = {nullptr, DType::bf16, {0, 160}};
  b.out = {nullptr, DType::bf16, {0, 160}};
  b.router_logits = {nullptr, DType::f32, {0, 8}};
  const MoeCounters counters = plan.run(b);
  EXPECT_EQ(counters.bad_expert_ids + counters.non_finite_logits, 0);
}

/// Runs with one thing wrong: the message names it, and nothing is written.
template <class Spoil>
void expect_refused(const char* names, Spoil spoil) {
  MoeCase c = make_case(parse_problem("moe t4 h64 i32 e4 k2 bf16"), 5);
  const MoeLayer layer(c.config, std::move(c.weights), Device::cpu(1));
  const MoePlan plan = layer.plan(4);
  Call call(plan, layer.config(), 4);
  const std::string before = call.bits();
  MoeBuffers b = call.buffers(c);
  spoil(b);
  try {
    plan.run(b);
    ADD_FAILURE() << "accepted; expected a complaint about " << names;
  } catch (const InvalidArgument& error) {
    EXPECT_EQ(std::string(error.what()).find(std::string("[moe.run] ") + names), 0U)
        << error.what();
  }
  EXPECT_TRUE(before == call.bits());
}

TEST(RunCpu, NamesTheBadArgumentAndWritesNothing) {
  expect_refused("tokens", [](MoeBuffers& b) { b.tokens.shape = {4, 63}; });
  expect_refused("tokens", [](MoeBuffers& b) { b.tokens.shape = {5, 64}; });
  expect_refused("tokens", [](MoeBuffers& b) { b.tokens.dtype = DType::i32; });
  expect_refused("tokens", [](MoeBuffers& b) { b.tokens.data = nullptr; });
  expect_refused("out", [](MoeBuffers& b) { b.out.shape = {4, 65}; });
  expect_refused("out", [](MoeBuffers& b) { b.out.dtype = DType::f8_e4m3; });
  expect_refused("out", [](MoeBuffers& b) { b.out.data = const_cast<void*>(b.tokens.data); });
  expect_refused("out",
                 [](MoeBuffers& b) { b.out.data = static_cast<std::byte*>(b.out.data) + 1; });
  expect_refused("router_logits", [](MoeBuffers& b) { b.router_logits.shape = {4, 5}; });
  expect_refused("router_logits", [](MoeBuffers& b) { b.expert_ids = b.chosen_ids; });
  expect_refused("expert_weights", [](MoeBuffers& b) {
    b.router_logits = {};
    b.expert_ids = b.chosen_ids;
  });
  expect_refused("chosen_ids", [](MoeBuffers& b) { b.chosen_ids.shape = {4, 3}; });
  expect_refused("chosen_weights", [](MoeBuffers& b) { b.chosen_weights.dtype = DType::bf16; });
  expect_refused("workspace",
                 [](MoeBuffers& b) { b.workspace = b.workspace.first(b.workspace.size() - 1); });
  expect_refused("workspace", [](MoeBuffers& b) { b.workspace = b.workspace.subspan(1); });
}

template <class Spoil>
void expect_no_layer(const char* names, Spoil spoil) {
  MoeCase c = make_case(parse_problem("moe t4 h64 i32 e4 k2 nvfp4"), 5);
  spoil(c.config, c.weights);
  try {
    const MoeLayer layer(c.config, std::move(c.weights), Device::cpu(1));
    ADD_FAILURE() << "accepted; expected a complaint about " << names;
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find(names), std::string::npos) << error.what();
  }
}

TEST(MoeLayer, NamesWhatDoesNotFitTheConfig) {
  expect_no_layer("hidden", [](MoeConfig& c, MoeWeights&) { c.hidden = 0; });
  expect_no_layer("top_k", [](MoeConfig& c, MoeWeights&) { c.top_k = 5; });
  expect_no_layer("experts.gate_up", [](MoeConfig& c, MoeWeights&) { c.hidden = 48; });
  expect_no_layer("experts.down", [](MoeConfig& c, MoeWeights& w) {
    w.experts.down.elements = Tensor::zeros(DType::f4_e2m1, {4, 64, 16});
    w.experts.down.scales = Tensor::zeros(DType::f8_e4m3, {4, 64, 1});
    c.intermediate = 32;
  });
  expect_no_layer("scales", [](MoeConfig&, MoeWeights& w) { w.experts.down.scales = Tensor(); });
  expect_no_layer("experts", [](MoeConfig& c, MoeWeights&) { c.experts = 8; });
  expect_no_layer("expert_map", [](MoeConfig& c, MoeWeights&) { c.expert_map = {0, 1, 2, 4}; });
  expect_no_layer("shared.gate_up", [](MoeConfig& c, MoeWeights&) { c.shared_intermediate = 32; });
  expect_no_layer("latent_down", [](MoeConfig& c, MoeWeights&) { c.latent = 64; });
  expect_no_layer("router", [](MoeConfig&, MoeWeights& w) {
    w.router = Tensor::zeros(DType::f32, {4, 63});
  });
  expect_no_layer("input_scale", [](MoeConfig&, MoeWeights& w) {
    w.experts.down.input_scale = Tensor::zeros(DType::f32, {1});
  });
}

}  // namespace
}  // namespace switchyard
