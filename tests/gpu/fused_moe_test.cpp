// The fused small-batch layer on a GPU against the definition; skipped where there is none. That
// its kernels compile without spills is tested everywhere NVRTC is.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "formats/convert.h"
#include "jit/nvrtc.h"
#include "moe/closeness.h"
#include "moe/reference.h"
#include "ops/repack/tiles.h"
#include "switchyard/problem.h"
#include "tests/gpu/fused_moe.h"

namespace switchyard::gpu {
namespace {

constexpr cuda::DeviceInfo h200() {
  return {.name = "NVIDIA H200",
          .sm = 90,
          .multiprocessors = 132,
          .smem_per_block = 232448,
          .l2_bytes = 60 << 20,
          .clock_khz = 1'980'000,
          .memory_bytes = std::size_t{139} << 30};
}

fused_moe::Activation kernel_activation(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::swiglu_oai:
    case ActivationKind::swiglu_clamp:
      return fused_moe::Activation::swiglu_oai;
    case ActivationKind::geglu_tanh:
      return fused_moe::Activation::geglu_tanh;
    case ActivationKind::situ:
      return fused_moe::Activation::situ;
    default:
      return fused_moe::Activation::swiglu;
  }
}

fused_moe::Problem fused_problem(const MoeProblem& p) {
  return {.tokens = p.tokens,
          .hidden = p.config.hidden,
          .intermediate = p.config.intermediate,
          .experts = p.config.experts,
          .top_k = p.config.top_k,
          .activation = kernel_activation(p.config.activation.kind),
          .bias = p.bias};
}

route::Problem route_problem(const MoeProblem& p) {
  return {.tokens = p.tokens,
          .experts = p.config.experts,
          .top_k = p.config.top_k,
          .routing = p.config.routing};
}

/// [E, out, in] bf16 -> tiles of all experts.
std::vector<std::uint16_t> pack(const ExpertMatrix& m, repack::RowOrder order) {
  const repack::Matrix one = {
      .out = static_cast<int>(m.out()), .in = static_cast<int>(m.in()), .order = order};
  const auto rows = static_cast<std::size_t>(m.out() * m.in());
  const auto tiles = static_cast<std::size_t>(repack::tiled_bytes(one)) / 2;
  std::vector<std::uint16_t> all(tiles * static_cast<std::size_t>(m.experts()));
  for (std::size_t e = 0; e < static_cast<std::size_t>(m.experts()); ++e)
    repack::pack(one, {m.elements.as<std::uint16_t>() + e * rows, rows},
                 std::span(all).subspan(e * tiles, tiles));
  return all;
}

std::vector<float> floats(const Tensor& t) {
  if (!t) return {0};
  return {t.as<float>(), t.as<float>() + t.shape().elements()};
}

Weights upload_weights(const Gpu& gpu, const ExpertWeights& w) {
  return {.gate_up = upload(gpu, pack(w.gate_up, repack::RowOrder::gate_up)),
          .down = upload(gpu, pack(w.down, repack::RowOrder::plain)),
          .gate_up_bias = upload(gpu, floats(w.gate_up.bias)),
          .down_bias = upload(gpu, floats(w.down.bias))};
}

class FusedMoeGpuTest : public testing::TestWithParam<const char*> {};

TEST_P(FusedMoeGpuTest, MatchesTheDefinitionTwice) {
  if (const auto reason = Gpu::declines()) GTEST_SKIP() << *reason;
  const MoeProblem problem = parse_problem(GetParam());
  const MoeCase made = make_case(problem, /*seed=*/7);
  MoeBuffers inputs;
  inputs.tokens = made.tokens.view();
  inputs.router_logits = made.router_logits.view();
  inputs.out.dtype = DType::bf16;
  const moe::Reference exact =
      moe::reference(made.config, made.weights, inputs, moe::Rounding::exact);
  const moe::Reference honest =
      moe::reference(made.config, made.weights, inputs, moe::Rounding::honest);

  Gpu gpu;
  const Weights weights = upload_weights(gpu, made.weights.experts);
  const auto tokens = upload(gpu, std::vector<std::uint16_t>(made.tokens.as<std::uint16_t>(),
                                                             made.tokens.as<std::uint16_t>() +
                                                                 made.tokens.shape().elements()));
  const auto logits = upload(gpu, floats(made.router_logits));
  const auto correction = upload(gpu, floats(made.weights.correction_bias));
  const fused_moe::Problem fused = fused_problem(problem);
  ASSERT_EQ(fused_moe::sm90_declines(fused, gpu.context.info()), std::nullopt);

  for (const fused_moe::Config& config : fused_moe::candidates(fused, gpu.context.info())) {
    SCOPED_TRACE(to_string(config));
    Layer layer(gpu, fused, route_problem(problem), config, problem.config.activation, weights);
    std::vector<std::uint16_t> runs[2];
    for (const int run : {0, 1}) {
      layer.poison(run == 0 ? 0xd5 : 0x2a);
      layer.enqueue(tokens.as<std::uint16_t>(), logits.as<float>(),
                    made.weights.correction_bias ? correction.as<float>() : nullptr,
                    problem.tokens);
      runs[run] = layer.out(problem.tokens);
    }
    EXPECT_EQ(runs[0], runs[1]);
    EXPECT_EQ(layer.expert_ids(problem.tokens), exact.routed.ids);
    std::vector<double> out(runs[0].size());
    formats::load_run(DType::bf16, runs[0].data(), 0, static_cast<std::int64_t>(out.size()),
                      out.data());
    const moe::Closeness close =
        moe::compare(out, honest.out, exact.out, static_cast<std::size_t>(problem.tokens), 0x1p-9);
    EXPECT_TRUE(close.finite_match);
    EXPECT_LT(close.zeros, 0.5);
    EXPECT_LE(close.worst_ratio, 2.0) << "at element " << close.worst;
  }
}

// One token; tails of H and I; every number of columns; one expert takes all; many experts; bias.
INSTANTIATE_TEST_SUITE_P(
    Shapes, FusedMoeGpuTest,
    testing::Values(
        "moe t1 h64 i64 e4 k1 bf16 swiglu softmax_renormalize",
        "moe t1 h512 i256 e64 k8 bf16 swiglu deepseek_v3 groups=8 topk_groups=4 scaling=2.5",
        "moe t8 h200 i88 e12 k3 bf16 swiglu softmax_renormalize",
        "moe t9 h136 i232 e16 k4 bf16 swiglu_oai topk_softmax bias",
        "moe t17 h256 i128 e128 k8 bf16 geglu_tanh softmax_renormalize",
        "moe t33 h384 i176 e40 k6 bf16 situ sigmoid_bias",
        "moe t64 h128 i64 e8 k2 bf16 swiglu_clamp sqrt_softplus_bias routing_load=hot",
        "moe t100 h256 i192 e96 k5 bf16 swiglu softmax",
        "moe t128 h512 i64 e8 k8 bf16 swiglu sigmoid_renormalize",
        "moe t128 h2880 i96 e32 k4 bf16 swiglu_oai topk_softmax bias routing_load=zipf"));

TEST(FusedMoePlan, DeclinesWithASentence) {
  fused_moe::Problem p = {
      .tokens = 8, .hidden = 256, .intermediate = 128, .experts = 8, .top_k = 2};
  EXPECT_EQ(fused_moe::sm90_declines(p, h200()), std::nullopt);
  p.tokens = 129;
  EXPECT_EQ(fused_moe::sm90_declines(p, h200()), "serves at most 128 tokens, got 129");
  p.tokens = 8, p.hidden = 20;
  EXPECT_EQ(fused_moe::sm90_declines(p, h200()),
            "reads tokens 16 bytes at a time: needs h % 8 == 0, got h=20");
}

TEST(FusedMoePlan, EveryCandidateFitsAndCompilesWithoutSpills) {
  if (jit::nvrtc().declines) GTEST_SKIP() << *jit::nvrtc().declines;
  jit::CacheOptions options;
  options.directory.clear();
  jit::Cache cache(options);
  for (const int tokens : {8, 128}) {
    const fused_moe::Problem p = {.tokens = tokens,
                                  .hidden = 2880,
                                  .intermediate = 2880,
                                  .experts = 128,
                                  .top_k = 4,
                                  .activation = fused_moe::Activation::swiglu_oai,
                                  .bias = true};
    const std::vector<fused_moe::Config> all = fused_moe::candidates(p, h200());
    ASSERT_FALSE(all.empty());
    const jit::Resources used = cache.get(fused_moe::program(all[0], 90))->resources;
    EXPECT_EQ(used.spill_bytes, 0) << to_string(all[0]);
    EXPECT_EQ(used.stack_bytes, 0) << to_string(all[0]);
    EXPECT_LE(used.smem_bytes + all[0].smem_bytes(), h200().smem_per_block);
  }
}

}  // namespace
}  // namespace switchyard::gpu
