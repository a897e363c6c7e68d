// Ranks that share a layer: their outputs sum to the whole layer's.

#include <gtest/gtest.h>

#include <cmath>

#include "moe/reference.h"
#include "switchyard/error.h"
#include "switchyard/problem.h"

namespace switchyard {
namespace {

std::vector<double> output(const MoeProblem& problem) {
  const MoeCase c = make_case(problem, 11);
  MoeBuffers inputs;
  inputs.tokens = c.tokens.view();
  inputs.router_logits = c.router_logits.view();
  inputs.input_ids = c.input_ids.view();
  inputs.out = {nullptr, DType::bf16, c.tokens.shape()};
  return moe::reference(c.config, c.weights, inputs, moe::Rounding::exact).out;
}

class PartsTest : public testing::TestWithParam<const char*> {};

TEST_P(PartsTest, SumToTheWhole) {
  MoeProblem problem = parse_problem(GetParam());
  const std::vector<double> whole = output(problem);
  for (const auto& [tp, ep] : {std::pair{2, 1}, {1, 2}, {1, 8}, {3, 1}, {2, 4}}) {
    std::vector<double> sum(whole.size());
    problem.tp_ranks = tp;
    problem.ep_ranks = ep;
    for (problem.tp_rank = 0; problem.tp_rank < tp; ++problem.tp_rank)
      for (problem.ep_rank = 0; problem.ep_rank < ep; ++problem.ep_rank) {
        const std::vector<double> part = output(problem);
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
      }
    for (std::size_t i = 0; i < sum.size(); ++i)
      ASSERT_NEAR(sum[i], whole[i], 1e-9 * (1 + std::abs(whole[i])))
          << "tp " << tp << " ep " << ep << " at " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Lines, PartsTest,
    testing::Values(
        "moe t5 h64 i96 e8 k2 bf16 swiglu softmax_renormalize",
        "moe t5 h64 i96 e8 k2 nvfp4 swiglu deepseek_v3 groups=4 topk_groups=2 shared=96",
        "moe t5 h64 i96 e8 k2 nvfp4 swiglu sigmoid_bias act=nvfp4",
        "moe t5 h64 i96 e8 k2 mxfp4 swiglu_oai topk_softmax bias",
        "moe t5 h64 i96 e8 k2 int4_g32 relu2 sigmoid_bias",
        "moe t5 h64 i96 e8 k2 fp8_channel situ minimax2 shared=48 shared_gate",
        "moe t5 h64 i384 e8 k2 fp8_block swiglu sigmoid_bias act=fp8_block",
        "moe t5 h64 i96 e8 k1 fp8_tensor swiglu llama4 act=fp8_tensor",
        "moe t5 h64 i96 e8 k4 bf16 swiglu softmax_bias zero_experts=4"));

TEST(Parts, RefusesAWidthThatCannotBeSplit) {
  EXPECT_THROW(make_case(parse_problem("moe t1 h64 i72 e2 k1 nvfp4 swiglu softmax tp=0/2"), 1),
               InvalidArgument);
}

}  // namespace
}  // namespace switchyard
