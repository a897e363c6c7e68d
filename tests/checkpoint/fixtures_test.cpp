// Checkpoints that other tools wrote (tests/fixtures/README.md): opened, loaded whole and in
// parts, decoded, and their experts run in f64 with the fixture's own routing.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/checkpoint/files.h"
#include "tests/checkpoint/fixture_layer.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using testing::Row;

struct Fixture {
  std::string_view directory, family, scheme, gate_up, down;
  int layers;
};

void PrintTo(const Fixture& fixture, std::ostream* out) {
  *out << fixture.directory;
}

struct Expected {
  Row tokens, weights, output, logits;
  std::vector<int> ids;
};

Expected expected(const TensorFile& file, int layer, std::string_view family) {
  const auto get = [&](std::string_view name) {
    return testing::numbers(file.tensors.at(fmt::format("{}.{}", layer, name)));
  };
  Expected result{get("tokens"),
                  get("expert_weights_exact"),
                  get("output_exact"),
                  get("router_logits_exact"),
                  {}};
  // transformers scales MiniMax-M3's sum, not its weights.
  if (family == "minimax_m3")
    for (double& weight : result.weights) weight *= 2.0;
  for (const double id : get("expert_ids")) result.ids.push_back(static_cast<int>(id));
  return result;
}

// The fixtures' decoders round products of scales to f32.
constexpr double kClose = 1e-6;

double largest_difference(const Row& a, const Row& b) {
  double difference = 0, scale = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::abs(a[i] - b[i]));
    scale = std::max(scale, std::abs(b[i]));
  }
  return difference / scale;
}

class Fixtures : public ::testing::TestWithParam<Fixture> {
 protected:
  fs::path directory() const {
    return fs::path(SWITCHYARD_SOURCE_DIR) / "tests/fixtures" / GetParam().directory;
  }
};

TEST_P(Fixtures, OpensAndDescribes) {
  const Checkpoint checkpoint = Checkpoint::open(directory());
  EXPECT_EQ(checkpoint.family(), GetParam().family);
  ASSERT_EQ(checkpoint.layers().size(), static_cast<std::size_t>(GetParam().layers));
  const CheckpointLayer& layer = checkpoint.layers().back();
  EXPECT_EQ(layer.scheme, GetParam().scheme);
  EXPECT_EQ(to_string(layer.gate_up), GetParam().gate_up);
  EXPECT_EQ(to_string(layer.down), GetParam().down);
  EXPECT_GT(layer.expert_bytes, 0);
}

TEST_P(Fixtures, ComputesWhatTransformersDid) {
  const Checkpoint checkpoint = Checkpoint::open(directory());
  const TensorFile file = read_tensors(directory() / "expected.safetensors");
  for (const CheckpointLayer& layer : checkpoint.layers()) {
    SCOPED_TRACE(layer.prefix);
    const Expected want = expected(file, layer.layer, checkpoint.family());
    const MoeWeights weights = checkpoint.load(layer.layer);
    check(weights.experts.gate_up, "gate_up");
    check(weights.experts.down, "down");
    EXPECT_EQ(weights.experts.gate_up.format, layer.gate_up);
    EXPECT_EQ(weights.experts.down.format, layer.down);
    const Row got = testing::run_layer(layer.config, weights, want.tokens, want.ids, want.weights);
    EXPECT_LT(largest_difference(got, want.output), kClose);
    const Row router = testing::numbers(weights.router);
    Row logits;
    for (std::size_t t = 0; t < 12; ++t) {
      const auto h = static_cast<std::ptrdiff_t>(layer.config.hidden);
      const Row x(want.tokens.begin() + static_cast<std::ptrdiff_t>(t) * h,
                  want.tokens.begin() + static_cast<std::ptrdiff_t>(t + 1) * h);
      Row z = testing::multiply(router, 0, static_cast<std::size_t>(layer.config.experts), x);
      if (weights.router_bias)
        for (std::size_t e = 0; e < z.size(); ++e) z[e] += testing::numbers(weights.router_bias)[e];
      logits.insert(logits.end(), z.begin(), z.end());
    }
    EXPECT_LT(largest_difference(logits, want.logits), kClose);
  }
}

TEST_P(Fixtures, PartsSumToTheLayer) {
  const Checkpoint checkpoint = Checkpoint::open(directory());
  const TensorFile file = read_tensors(directory() / "expected.safetensors");
  const CheckpointLayer& layer = checkpoint.layers().back();
  const Expected want = expected(file, layer.layer, checkpoint.family());
  const auto sum_of_parts = [&](int tp, int ep) {
    Row sum(want.output.size(), 0.0);
    for (int t = 0; t < tp; ++t)
      for (int e = 0; e < ep; ++e) {
        const LoadOptions options{.tp = {t, tp}, .ep = {e, ep}, .progress = {}};
        const MoeConfig config = checkpoint.config(layer.layer, options);
        const MoeWeights weights = checkpoint.load(layer.layer, options);
        check(weights.experts.gate_up, "gate_up");
        check(weights.experts.down, "down");
        const Row part = testing::run_layer(config, weights, want.tokens, want.ids, want.weights);
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
      }
    return sum;
  };
  const int ranks = layer.config.experts % 2 == 0 ? 2 : 3;
  EXPECT_LT(largest_difference(sum_of_parts(1, ranks), want.output), kClose) << "ep " << ranks;
  std::string refusal;
  refusal = testing::complaint(
      [&] { EXPECT_LT(largest_difference(sum_of_parts(2, 1), want.output), kClose) << "tp 2"; });
  if (!refusal.empty()) {
    EXPECT_NE(refusal.find("tp: expected at most 1 parts"), std::string::npos) << refusal;
  }
}

constexpr std::string_view kCt = "compressed-tensors nvfp4", kModelOpt = "modelopt nvfp4";

// clang-format off
INSTANTIATE_TEST_SUITE_P(
    All, Fixtures,
    ::testing::Values(
        Fixture{"mixtral_bf16", "mixtral", "bf16", "bf16", "bf16", 2},
        Fixture{"qwen2_moe_bf16", "qwen2_moe", "bf16", "bf16", "bf16", 1},
        Fixture{"qwen3_moe_bf16", "qwen3_moe", "bf16", "bf16", "bf16", 1},
        Fixture{"qwen3_next_bf16", "qwen3_next", "bf16", "bf16", "bf16", 1},
        Fixture{"qwen3_5_moe_bf16", "qwen3_5_moe", "bf16", "bf16", "bf16", 1},
        Fixture{"qwen3_vl_moe_bf16", "qwen3_vl_moe", "bf16", "bf16", "bf16", 1},
        Fixture{"deepseek_v2_bf16", "deepseek_v2", "bf16", "bf16", "bf16", 1},
        Fixture{"deepseek_v3_bf16", "deepseek_v3", "bf16", "bf16", "bf16", 1},
        Fixture{"deepseek_v4_bf16", "deepseek_v4", "bf16", "bf16", "bf16", 2},
        Fixture{"glm4_moe_bf16", "glm4_moe", "bf16", "bf16", "bf16", 1},
        Fixture{"gpt_oss_bf16", "gpt_oss", "bf16", "bf16", "bf16", 1},
        Fixture{"llama4_bf16", "llama4", "bf16", "bf16", "bf16", 1},
        Fixture{"minimax_m2_bf16", "minimax_m2", "bf16", "bf16", "bf16", 1},
        Fixture{"minimax_m3_bf16", "minimax_m3", "bf16", "bf16", "bf16", 1},
        Fixture{"nemotron_nano_bf16", "nemotron_h", "bf16", "bf16", "bf16", 1},
        Fixture{"nemotron_super_bf16", "nemotron_h", "bf16", "bf16", "bf16", 1},
        Fixture{"qwen3_moe_ct_nvfp4", "qwen3_moe", kCt, "nvfp4", "nvfp4", 1},
        Fixture{"qwen3_next_ct_nvfp4a16", "qwen3_next", kCt, "nvfp4", "nvfp4", 1},
        Fixture{"qwen3_moe_ct_mxfp4", "qwen3_moe", "compressed-tensors mxfp4", "mxfp4", "mxfp4", 1},
        Fixture{"minimax_m2_ct_mxfp8", "minimax_m2", "mxfp8", "mxfp8", "mxfp8", 1},
        Fixture{"qwen3_moe_ct_fp8_channel", "qwen3_moe", "fp8 channel", "fp8_channel", "fp8_channel", 1},
        Fixture{"mixtral_ct_fp8_tensor", "mixtral", "fp8 tensor", "fp8_channel", "fp8_tensor", 1},
        Fixture{"deepseek_v3_ct_fp8_block", "deepseek_v3", "fp8 block", "f8_e4m3 scale f32 8x128", "fp8_block", 1},
        Fixture{"kimi_k2_ct_int4_g32", "kimi_k2", "compressed-tensors int4", "int4_g32", "int4_g32", 1},
        Fixture{"kimi_k25_ct_int4_g32", "kimi_k2", "compressed-tensors int4", "int4_g32", "int4_g32", 1},
        Fixture{"qwen3_moe_ct_int4_asym", "qwen3_moe", "compressed-tensors int4", "int4_g16_zp", "int4_g16_zp", 1},
        Fixture{"deepseek_v3_modelopt_nvfp4_old", "deepseek_v3", kModelOpt, "nvfp4", "nvfp4", 1},
        Fixture{"qwen3_moe_modelopt_nvfp4_new", "qwen3_moe", kModelOpt, "nvfp4", "nvfp4", 1},
        Fixture{"qwen3_moe_modelopt_nvfp4_unequal", "qwen3_moe", kModelOpt, "nvfp4", "nvfp4", 1},
        Fixture{"minimax_m2_modelopt_nvfp4", "minimax_m2", kModelOpt, "nvfp4", "nvfp4", 1},
        Fixture{"nemotron_modelopt_nvfp4", "nemotron_h", kModelOpt, "nvfp4", "nvfp4", 1},
        Fixture{"qwen3_moe_modelopt_w4a16_nvfp4", "qwen3_moe", kModelOpt, "nvfp4", "nvfp4", 1},
        Fixture{"gpt_oss_modelopt_nvfp4", "gpt_oss", kModelOpt, "nvfp4", "nvfp4", 1},
        Fixture{"llama4_modelopt_nvfp4", "llama4", kModelOpt, "nvfp4", "nvfp4", 1},
        Fixture{"mixtral_modelopt_fp8", "mixtral", "fp8 tensor", "fp8_channel", "fp8_tensor", 1},
        Fixture{"qwen3_moe_fp8_block", "qwen3_moe", "fp8 block", "fp8_block", "fp8_block", 1},
        Fixture{"deepseek_v3_fp8_block_ue8m0", "deepseek_v3", "fp8 block", "f8_e4m3 scale f32 32x32", "f8_e4m3 scale f32 32x32", 1},
        Fixture{"minimax_m2_fp8_block", "minimax_m2", "fp8 block", "f8_e4m3 scale f32 32x64", "f8_e4m3 scale f32 32x64", 1},
        Fixture{"mixtral_fp8_static", "mixtral", "fp8 tensor", "fp8_channel", "fp8_tensor", 1},
        Fixture{"gpt_oss_mxfp4", "gpt_oss", "gpt-oss mxfp4", "mxfp4", "mxfp4", 1},
        Fixture{"deepseek_v4_mxfp4", "deepseek_v4", "deepseek mxfp4", "mxfp4", "mxfp4", 2},
        Fixture{"deepseek_v41_mxfp4", "deepseek_v4", "deepseek mxfp4", "mxfp4", "mxfp4", 1},
        Fixture{"deepseek_v4_nvfp4", "deepseek_v4", kModelOpt, "nvfp4", "nvfp4", 2},
        Fixture{"qwen3_moe_gptq_sym", "qwen3_moe", "gptq", "u4 scale f16 1x32", "u4 scale f16 1x32", 1},
        Fixture{"qwen3_moe_gptq_asym", "qwen3_moe", "gptq", "u4 scale f16 1x32 zero_points", "u4 scale f16 1x32 zero_points", 1},
        Fixture{"qwen3_moe_gptq_act_order", "qwen3_moe", "gptq", "u4 scale f16 1x16 zero_points", "u4 scale f16 1x16 zero_points", 1},
        Fixture{"qwen3_moe_gptq_v2", "qwen3_moe", "gptq", "u4 scale f16 1x32 zero_points", "u4 scale f16 1x32 zero_points", 1},
        Fixture{"qwen2_moe_awq", "qwen2_moe", "awq", "u4 scale f16 1x32 zero_points", "u4 scale f16 1x32 zero_points", 1},
        Fixture{"qwen3_moe_modelopt_w4a16_awq", "qwen3_moe", "modelopt int4 awq", "u4 scale f32 1x64", "u4 scale f32 1x64", 1},
        Fixture{"qwen3_moe_modelopt_w4a8_awq", "qwen3_moe", "modelopt int4 awq", "u4 scale f32 1x128", "u4 scale f32 1x128", 1}),
    [](const auto& test) { return std::string(test.param.directory); });
// clang-format on

TEST(FixtureList, EveryDirectoryIsTested) {
  for (const auto& entry :
       fs::directory_iterator(fs::path(SWITCHYARD_SOURCE_DIR) / "tests/fixtures"))
    if (fs::exists(entry.path() / "config.json")) {
      const std::string name =
          fmt::format("ComputesWhatTransformersDid/{}", entry.path().filename().string());
      bool found = false;
      const ::testing::UnitTest& all = *::testing::UnitTest::GetInstance();
      for (int s = 0; s < all.total_test_suite_count(); ++s)
        for (int t = 0; t < all.GetTestSuite(s)->total_test_count(); ++t)
          found = found || all.GetTestSuite(s)->GetTestInfo(t)->name() == name;
      EXPECT_TRUE(found) << name;
    }
}

}  // namespace
}  // namespace switchyard
