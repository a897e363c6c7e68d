// Plans as text and as offsets: no token is computed here.

#include "moe/plan.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "switchyard/error.h"
#include "switchyard/problem.h"

namespace switchyard {
namespace {

MoeState state_of(const char* line) {
  MoeCase made = make_case(parse_problem(line), 1);
  MoeState state;
  state.config = made.config;
  state.weights = std::move(made.weights);
  state.device = Device::cpu(2);
  state.pool = std::make_unique<ThreadPool>(2);
  return state;
}

std::vector<std::string> ops_of(const PlanState& plan) {
  std::vector<std::string> ops;
  for (const moe::Step& step : plan.steps) ops.push_back(step.op);
  return ops;
}

TEST(Plan, ListsItsStepsInTheOrderTheyRun) {
  MoeState state = state_of("moe t4 h128 i64 e8 k2 nvfp4 shared=64");
  state.weights.router = Tensor::zeros(DType::bf16, {8, 128});
  const PlanState plan = moe::make_plan(state, 4);
  const std::vector<std::string> expected = {
      "load",         "gemm",       "route",        "group",    "quantize",
      "grouped_gemm", "activation", "grouped_gemm", "finalize", "quantize",
      "grouped_gemm", "activation", "grouped_gemm", "store"};
  EXPECT_EQ(ops_of(plan), expected);
}

TEST(Plan, KeepsEverySliceInsideTheWorkspace) {
  const MoeState state = state_of("moe t33 h128 latent=64 i64 e8 k2 nvfp4 shared=64");
  for (const int tokens : {0, 1, 33}) {
    const PlanState plan = moe::make_plan(state, tokens);
    for (const moe::Step& step : plan.steps) {
      EXPECT_GE(step.out.offset, 0) << step.op;
      EXPECT_EQ(step.out.offset % 64, 0) << step.op;
      EXPECT_LE(step.out.offset + step.out.bytes, static_cast<std::int64_t>(plan.workspace_bytes))
          << step.op;
    }
  }
}

TEST(Plan, CountsBytesAndFlopsOfTheExpertsItReads) {
  const MoeState state = state_of("moe t1 h128 i64 e8 k2 nvfp4");
  const PlanState plan = moe::make_plan(state, 1);
  const auto gemm = std::find_if(plan.steps.begin(), plan.steps.end(),
                                 [](const moe::Step& step) { return step.op == "grouped_gemm"; });
  ASSERT_NE(gemm, plan.steps.end());
  const ExpertMatrix& w = state.weights.experts.gate_up;
  EXPECT_EQ(gemm->flops, 2 * 2 * 128 * 128);  // two slots, [128, 128]
  EXPECT_EQ(gemm->bytes, w.bytes() / 8 * 2 + 2 * (128 + 128) * 4);
}

TEST(Plan, WorkspaceGrowsLinearlyInTokens) {
  const MoeState state = state_of("moe t64 h256 i128 e8 k2 bf16");
  const auto bytes = [&](int tokens) {
    return static_cast<double>(moe::make_plan(state, tokens).workspace_bytes);
  };
  const double each = (bytes(1024) - bytes(512)) / 512;
  EXPECT_NEAR((bytes(512) - bytes(256)) / 256, each, each * 0.01);
}

TEST(Plan, ExplainSaysWhatRunsAndWhatWasDeclined) {
  const MoeState state = state_of("moe t4 h128 i64 e8 k2 nvfp4");
  const PlanState plan = moe::make_plan(state, 4, {grouped_gemm::Isa::baseline});
  const std::string text = moe::explain(to_string(state.device), plan);
  for (const char* piece :
       {"plan for at most 4 tokens on cpu, 2 threads, workspace ",
        "experts gate_up nvfp4 [8, 128, 128]: baseline f32", "route", "softmax_renormalize",
        "declined      dense_moe: reads all 8 experts, grouped at most 8",
        "declined      fixed16 for experts gate_up: needs a byte shuffle (avx2)"}) {
    EXPECT_NE(text.find(piece), std::string::npos) << piece << "\n" << text;
  }
}

TEST(Plan, RefusesImpossibleCountsAndVariants) {
  const MoeState state = state_of("moe t4 h128 i64 e8 k2 bf16");
  EXPECT_THROW(moe::make_plan(state, -1), InvalidArgument);
  EXPECT_THROW(moe::make_plan(state, 2'000'000'000), InvalidArgument);
  EXPECT_THROW(moe::make_plan(state, 4, {grouped_gemm::best_isa(), grouped_gemm::Method::fixed}),
               Unsupported);
}

}  // namespace
}  // namespace switchyard
