// The layer that users run against the definition, as `switchyard check` does it.

#include <gtest/gtest.h>

#include "switchyard/error.h"
#include "switchyard/problem.h"

namespace switchyard {
namespace {

class CheckTest : public testing::TestWithParam<const char*> {};

TEST_P(CheckTest, MatchesTheDefinition) {
  SCOPED_TRACE(std::string("rerun with: switchyard check '") + GetParam() + "' --seed 7");
  const CheckReport report = check(parse_problem(GetParam()), 7);
  EXPECT_LE(report.error_ratio, 2);
  EXPECT_TRUE(report.finite_match);
  EXPECT_TRUE(report.repeatable);
  EXPECT_TRUE(report.routing_exact);
  EXPECT_TRUE(report.passed);
}

INSTANTIATE_TEST_SUITE_P(
    Formats, CheckTest,
    testing::Values("moe t7 h128 i64 e8 k2 f32", "moe t7 h128 i64 e8 k2 bf16",
                    "moe t7 h128 i64 e8 k2 fp16 act=fp16", "moe t7 h128 i64 e8 k2 bf16 act=f32",
                    "moe t7 h128 i64 e8 k2 fp8_tensor", "moe t7 h128 i64 e8 k2 fp8_channel",
                    "moe t7 h200 i136 e8 k2 fp8_block", "moe t7 h64 i96 e8 k2 fp8_block32",
                    "moe t7 h128 i64 e8 k2 mxfp8", "moe t7 h128 i64 e8 k2 nvfp4",
                    "moe t7 h96 i160 e8 k2 mxfp4", "moe t7 h128 i256 e8 k2 int4",
                    "moe t7 h128 i64 e8 k2 int4_g32_zp"));

INSTANTIATE_TEST_SUITE_P(ActivationFormats, CheckTest,
                         testing::Values("moe t9 h256 i128 e8 k2 nvfp4 act=nvfp4",
                                         "moe t9 h256 i128 e8 k2 nvfp4 act=nvfp4 fused_alpha",
                                         "moe t9 h256 i128 e8 k2 nvfp4 act=nvfp4 dense",
                                         "moe t9 h256 i128 e8 k2 nvfp4 act=nvfp4 dense fused_alpha",
                                         "moe t9 h256 i128 e8 k2 fp8_tensor act=fp8_tensor",
                                         "moe t9 h256 i128 e8 k2 fp8_channel act=fp8_token",
                                         "moe t9 h256 i256 e8 k2 fp8_block act=fp8_block",
                                         "moe t9 h256 i128 e8 k2 mxfp8 act=mxfp8",
                                         "moe t9 h256 i128 e8 k2 mxfp4 act=mxfp8",
                                         "moe t9 h256 i128 e8 k2 int4 act=fp8_token"));

INSTANTIATE_TEST_SUITE_P(
    Activations, CheckTest,
    testing::Values("moe t5 h64 i48 e8 k2 identity", "moe t5 h64 i48 e8 k2 relu",
                    "moe t5 h64 i48 e8 k2 relu2", "moe t5 h64 i48 e8 k2 silu",
                    "moe t5 h64 i48 e8 k2 gelu", "moe t5 h64 i48 e8 k2 swiglu_oai bias",
                    "moe t5 h64 i48 e8 k2 swiglu_oai alpha=1 beta=0.5 limit=0.5",
                    "moe t5 h64 i48 e8 k2 swiglu_clamp limit=0.25",
                    "moe t5 h64 i48 e8 k2 swiglu_step limit=0.25", "moe t5 h64 i48 e8 k2 geglu",
                    "moe t5 h64 i48 e8 k2 geglu_tanh",
                    "moe t5 h64 i48 e8 k2 situ beta=0.5 linear_beta=0.5"));

INSTANTIATE_TEST_SUITE_P(
    Routing, CheckTest,
    testing::Values("moe t40 h64 i48 e12 k3 softmax", "moe t40 h64 i48 e12 k3 topk_softmax",
                    "moe t40 h64 i48 e12 k3 deepseek_v2 groups=4 topk_groups=2 scaling=16",
                    "moe t40 h64 i48 e12 k3 deepseek_v3 groups=4 topk_groups=2 scaling=2.5",
                    "moe t40 h64 i48 e12 k3 sigmoid_bias no_renormalize",
                    "moe t40 h64 i48 e12 k3 minimax2", "moe t40 h64 i48 e12 k1 llama4",
                    "moe t40 h64 i48 e12 k3 topk", "moe t40 h64 i48 e12 k3 sigmoid",
                    "moe t40 h64 i48 e12 k3 sigmoid_renormalize",
                    "moe t40 h64 i48 e12 k3 topk_sigmoid",
                    "moe t40 h64 i48 e12 k3 sqrt_softplus_bias scaling=1.5",
                    "moe t40 h64 i48 e12 k3 hash", "moe t40 h64 i48 e12 k4 sparse_mixer",
                    "moe t40 h64 i48 e12 k4 softmax_bias zero_experts=6 scaling=6",
                    "moe t40 h64 i48 e12 k8 adaptive_k", "moe t40 h64 i48 e12 k3 load_balanced",
                    "moe t40 h64 i48 e12 k12 softmax_renormalize"));

// Nothing; one token; an idle expert; everything on few experts; the layers around the experts.
INSTANTIATE_TEST_SUITE_P(Shapes, CheckTest,
                         testing::Values("moe t1 h64 i48 e8 k2 nvfp4",
                                         "moe t130 h64 i48 e64 k1 routing_load=hot",
                                         "moe t130 h64 i48 e16 k2 routing_load=zipf",
                                         "moe t64 h64 i48 e16 k2 routing_load=balanced",
                                         "moe t3 h7 i5 e3 k2 f32",
                                         "moe t5 h128 i32 e8 k2 nvfp4 shared=64",
                                         "moe t5 h128 i32 e8 k2 shared=64 shared_gate",
                                         "moe t5 h128 i32 e8 k2 relu2 latent=64 shared=32",
                                         "moe t5 h128 i32 e8 k2 nvfp4 latent=64 tp=1/2",
                                         "moe t9 h128 i64 e8 k2 mxfp4 bias swiglu_oai ep=1/4",
                                         "moe t9 h128 i96 e8 k2 nvfp4 tp=2/3 ep=1/2",
                                         "moe t9 h64 i32 e8 k2 topk relu2 on_input=1"));

TEST(Check, NoTokens) {
  const CheckReport report = check(parse_problem("moe t0 h64 i48 e8 k2"), 7);
  EXPECT_TRUE(report.repeatable);
  EXPECT_EQ(report.error_ratio, 0);
  EXPECT_TRUE(report.passed);
}

TEST(Check, SaysWhatItRan) {
  const CheckReport report = check(parse_problem("moe e4 t2 k1 h64 i32"), 3);
  EXPECT_EQ(report.problem, "moe t2 h64 i32 e4 k1 swiglu softmax_renormalize bf16");
  EXPECT_EQ(report.seed, 3U);
}

TEST(Check, RefusesWhatCannotBeQuantised) {
  EXPECT_THROW(check(parse_problem("moe t1 h60 i48 e8 k2 nvfp4"), 7), InvalidArgument);
}

}  // namespace
}  // namespace switchyard
