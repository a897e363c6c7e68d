// Layers whose activations are NVFP4, on a GPU: the dense GEMMs as a backend.
#include <gtest/gtest.h>

#include <cmath>

#include "formats/convert.h"
#include "moe/gpu_programs.h"
#include "switchyard/error.h"
#include "switchyard/kernels.h"
#include "tests/gpu/support.h"

namespace switchyard::moe {
namespace {

std::vector<double> values(const Tensor& t) {
  std::vector<double> v(static_cast<std::size_t>(t.shape().elements()));
  formats::load_run(t.dtype(), t.data(), 0, static_cast<std::int64_t>(v.size()), v.data());
  return v;
}

/// The published threshold of NVFP4 backends (spec 10.5), and ours: codes between the GEMMs that
/// fall on the other side of an edge are few.
void expect_near(const Tensor& out, const Reference& exact) {
  const std::vector<double> y = values(out);
  ASSERT_EQ(y.size(), exact.out.size());
  std::size_t close = 0;
  double difference = 0, scale = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    ASSERT_TRUE(std::isfinite(y[i]));
    const double off = std::abs(y[i] - exact.out[i]);
    close += off <= 0.15 + 0.01 * std::abs(exact.out[i]) ? 1 : 0;
    difference += off * off, scale += exact.out[i] * exact.out[i];
  }
  EXPECT_GE(static_cast<double>(close), 0.97 * static_cast<double>(y.size()));
  EXPECT_LT(std::sqrt(difference / scale), 0.02);
}

/// Every way of a layer: over all experts and over those that have tokens.
void expect_all_ways(const GpuCase& c, int max_tokens) {
  Planned p(c, max_tokens);
  std::vector<std::string> declined;
  const auto ways = gpu_candidates(p.layer.shape(), max_tokens, p.layer.context().info(), declined);
  EXPECT_EQ(ways.size(), 2U);
  for (const GpuExperts& way : ways) {
    SCOPED_TRACE(to_string(way));
    p.plan = make_gpu_plan(p.layer.shape(), max_tokens, p.layer.context().info(), way);
    load(p.plan, p.layer);
    expect_near(c.run(p.layer, p.plan).out, c.exact);
  }
}

/// The eight cases that the reference systems' backend passes (spec 10.3).
TEST(DenseLayerGpuTest, EightBackendCases) {
  NEEDS_GPU();
  int cases = 0;
  for (const char* shape :
       {"h512 i512 e8 k1", "h512 i512 e4 k4", "h256 i512 e7 k2", "h256 i512 e13 k3"})
    for (const int tokens : {1, 8}) {
      const std::string line =
          fmt::format("moe t{} {} nvfp4 act=nvfp4 swiglu softmax_renormalize dense", tokens, shape);
      SCOPED_TRACE(line);
      const GpuCase c(line);
      expect_all_ways(c, tokens);
      ++cases;
    }
  EXPECT_EQ(cases, 8);
}

TEST(DenseLayerGpuTest, OtherShapesFusedAlphaAndFewerTokensThanPlanned) {
  NEEDS_GPU();
  for (const char* line :
       {"moe t9 h256 i128 e8 k2 nvfp4 act=nvfp4 swiglu softmax_renormalize fused_alpha",
        "moe t40 h272 i80 e16 k4 nvfp4 act=nvfp4 swiglu sigmoid_bias",
        "moe t130 h128 i64 e32 k2 nvfp4 act=nvfp4 swiglu softmax_renormalize dense fused_alpha",
        "moe t3 h128 i64 e64 k6 nvfp4 act=nvfp4 swiglu deepseek_v2 groups=8 topk_groups=3"}) {
    SCOPED_TRACE(line);
    const GpuCase c(line);
    expect_all_ways(c, c.problem.tokens);
    expect_all_ways(c, 3 * c.problem.tokens);
  }
}

TEST(DenseLayerGpuTest, TheSameBitsInAnyWorkspace) {
  NEEDS_GPU();
  const GpuCase c("moe t20 h256 i128 e16 k4 nvfp4 act=nvfp4 swiglu softmax_renormalize");
  const Planned p(c);
  OnDevice call(p, c);
  const Tensor first = call.run(0xd5);
  EXPECT_TRUE(same(call.run(0x2a), first));
  const cuda::Graph graph = cuda::Graph::capture(p.layer.context(), call.stream.get(), [&] {
    run_gpu(p.layer, p.plan, call.buffers, call.stream.get());
  });
  for (int i = 0; i < 100; ++i) graph.launch(call.stream.get());
  EXPECT_TRUE(same(call.result(), first));
  call.expect_guards();
}

// --- without a GPU ------------------------------------------------------------------------------

std::string refusal(const char* options) {
  const MoeProblem p = parse_problem(
      fmt::format("moe t8 h256 i128 e8 k2 nvfp4 act=nvfp4 swiglu softmax_renormalize {}", options));
  return gpu_declines(p, 90).value_or("");
}

TEST(DenseLayer, IsDeclinedWithAWordForPrograms) {
  EXPECT_EQ(refusal(""), "");
  EXPECT_EQ(refusal("dense fused_alpha"), "");
  EXPECT_EQ(refusal("ep=0/2").find("TOPOLOGY_UNSUPPORTED: "), 0U);
  EXPECT_EQ(refusal("on_input=1").find("LAYER_UNSUPPORTED: "), 0U);
  EXPECT_EQ(refusal("shared=128").find("LAYER_UNSUPPORTED: "), 0U);
  MoeProblem p = parse_problem("moe t8 h256 i128 e8 k2 nvfp4 act=nvfp4 geglu softmax_renormalize");
  EXPECT_EQ(gpu_declines(p, 90).value().find("ACTIVATION_UNSUPPORTED: "), 0U);
  p.config.activation = activation(ActivationKind::swiglu);
  EXPECT_NE(gpu_declines(p, 80).value().find("SM_UNSUPPORTED"), std::string::npos);
  p.config.intermediate = 72;
  EXPECT_EQ(gpu_declines(p, 90).value().find("SHAPE_UNALIGNED: "), 0U);
  p = parse_problem("moe t8 h256 i128 e8 k2 nvfp4 act=bf16 swiglu softmax_renormalize dense");
  EXPECT_EQ(gpu_declines(p, 90).value().find("QUANT_UNSUPPORTED: "), 0U);
}

TEST(DenseLayer, FusedAlphaIsRefusedUnderTensorParallelism) {
  try {
    parse_problem("moe t8 h256 i128 e8 k2 nvfp4 act=nvfp4 fused_alpha tp=0/2");
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("fused_alpha"), std::string::npos);
  }
}

/// Few tokens reach few experts: their weights alone are read. Many reach all, and the list is in
/// the way.
TEST(DenseLayer, IsOverTheExpertsThatCostLeastAndSaysWhy) {
  for (const int tokens : {1, 8, 4096}) {
    const MoeProblem p = parse_problem(fmt::format(
        "moe t{} h7168 i256 e256 k8 nvfp4 act=nvfp4 swiglu softmax_renormalize", tokens));
    const GpuPlan plan = plan_problem(p, h200());
    ASSERT_TRUE(plan.experts.dense);
    EXPECT_EQ(plan.experts.dense->active, tokens < 4096);
    const std::string text = kernels::explain(p).text;
    for (const char* piece : {"alpha", "dense_fc1", "dense_fc2", "dense_moe over all 256 experts",
                              "grouped_gemm, fused_moe: QUANT_UNSUPPORTED", "slower"})
      EXPECT_NE(text.find(piece), std::string::npos) << piece << text;
    double us = 0;
    for (const Step& step : plan.steps) us += step.expected_us;
    EXPECT_GT(us, 10);
  }
  EXPECT_NE(kernels::explain(preset("qwen3-30b-a3b", 32)).text.find("dense_moe: QUANT_UNSUPPORTED"),
            std::string::npos);
}

}  // namespace
}  // namespace switchyard::moe
