#include "switchyard/problem.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cstring>

#include "base/names.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

constexpr const char* kFormats[] = {"f32",         "bf16",      "fp16",       "fp8_tensor",
                                    "fp8_channel", "fp8_block", "mxfp8",      "nvfp4",
                                    "mxfp4",       "int4",      "int4_g32_zp"};
constexpr const char* kLoads[] = {"random", "balanced", "zipf", "hot"};

int between(int low, int high) {
  return *rc::gen::inRange(low, high + 1);
}

float constant() {
  return static_cast<float>(between(-4000, 4000)) / 257.0F;
}

template <class E>
E one_of(std::span<const Named<E>> names) {
  return names[static_cast<std::size_t>(between(0, static_cast<int>(names.size()) - 1))].value;
}

MoeProblem any_problem() {
  MoeProblem p;
  MoeConfig& c = p.config;
  p.tokens = between(0, 100000);
  p.ep_ranks = between(1, 4);
  p.tp_ranks = between(1, 4);
  p.ep_rank = between(0, p.ep_ranks - 1);
  p.tp_rank = between(0, p.tp_ranks - 1);
  c.hidden = between(1, 8192);
  c.intermediate = between(4, 8192);
  c.experts = p.ep_ranks * 8 * between(1, 40);
  c.top_k = between(1, 8);
  c.routing.method = one_of(routing_methods());
  c.activation = {one_of(activation_kinds()), constant(), constant(), constant(), constant()};
  c.act = one_of(activation_formats());
  const bool grouped = c.routing.method == RoutingMethod::deepseek_v2 ||
                       c.routing.method == RoutingMethod::deepseek_v3;
  if (grouped) {
    c.routing.groups = 4;
    c.routing.topk_groups = between(2, 4);
    c.top_k = between(1, 4);
  } else {
    c.routing.zero_experts = between(0, 3);
  }
  c.routing.scaling = constant();
  c.routing.renormalize = between(0, 1) == 1;
  c.router_weight_on_input = between(0, 1) == 1;
  c.fused_alpha = c.act == ActivationFormat::nvfp4 && p.tp_ranks == 1 && between(0, 1) == 1;
  c.dense = between(0, 1) == 1;
  c.shared_intermediate = between(0, 1) * 512;
  c.shared_gate = c.shared_intermediate > 0 && between(0, 1) == 1;
  c.latent = between(0, 1) * 64;
  p.bias = between(0, 1) == 1;
  p.load = kLoads[between(0, 3)];
  p.format = weight_format(kFormats[between(0, static_cast<int>(std::size(kFormats)) - 1)]);
  return p;
}

TEST(ProblemLine, RoundTripsWhateverTheProblem) {
  EXPECT_TRUE(rc::check([] {
    const MoeProblem p = any_problem();
    RC_ASSERT(parse_problem(to_string(p)) == p);
  }));
}

TEST(ProblemLine, IsShortAndFreeInOrder) {
  const char* line =
      "moe t128 h7168 i256 e256 k8 swiglu deepseek_v3 groups=8 topk_groups=4 scaling=2.5 nvfp4";
  EXPECT_EQ(to_string(parse_problem(line)), line);
  EXPECT_EQ(to_string(parse_problem("moe nvfp4 scaling=2.5 deepseek_v3 k8 e256 topk_groups=4 "
                                    "swiglu i256 groups=8 h7168 t128")),
            line);
}

TEST(ProblemLine, DefaultsAreTheFamilys) {
  const MoeProblem oss = parse_problem("moe t1 h64 i64 e4 k1 mxfp4 swiglu_oai topk_softmax bias");
  EXPECT_EQ(oss.config.activation, activation(ActivationKind::swiglu_oai));
  EXPECT_FALSE(oss.config.router_weight_on_input);
  EXPECT_TRUE(parse_problem("moe t1 h64 i64 e4 k1 llama4").config.router_weight_on_input);
  EXPECT_FALSE(
      parse_problem("moe t1 h64 i64 e4 k1 llama4 on_input=0").config.router_weight_on_input);
  EXPECT_EQ(parse_problem("moe t1 h64 i64 e4 k1").format, weight_format("bf16"));
}

std::string refusal(const std::string& line) {
  try {
    parse_problem(line);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "none";
}

TEST(ProblemLine, SuggestsTheNearestSpelling) {
  const std::string base = "moe t1 h64 i64 e4 k2 ";
  EXPECT_NE(refusal(base + "nvpf4").find("'nvfp4'"), std::string::npos);
  EXPECT_NE(refusal(base + "nvfp4 swigloo").find("'swiglu'"), std::string::npos);
  EXPECT_NE(refusal(base + "swigluoai").find("'swiglu_oai'"), std::string::npos);
  EXPECT_NE(refusal(base + "deepseekv3").find("'deepseek_v3'"), std::string::npos);
  EXPECT_NE(refusal(base + "group=2").find("'groups='"), std::string::npos);
  EXPECT_NE(refusal(base + "act=fp8tensor").find("'fp8_tensor'"), std::string::npos);
  EXPECT_NE(refusal(base + "routing_load=zip").find("'zipf'"), std::string::npos);
}

TEST(ProblemLine, RefusesWhatDoesNotFit) {
  EXPECT_NE(refusal("").find("begin with 'moe'"), std::string::npos);
  EXPECT_NE(refusal("mop t1").find("begin with 'moe'"), std::string::npos);
  EXPECT_NE(refusal("moe t1 i64 e4 k2").find("h: missing"), std::string::npos);
  EXPECT_NE(refusal("moe t1 t2 h64 i64 e4 k2").find("given twice"), std::string::npos);
  EXPECT_NE(refusal("moe t1 h64 i64 e4 k5").find("top_k: expected 1..4"), std::string::npos);
  EXPECT_NE(refusal("moe t1 h64 i64 e4 k2 swiglu relu2").find("second word"), std::string::npos);
  EXPECT_NE(refusal("moe t1 h64 i64 e4 k2 bf16 nvfp4").find("second weight"), std::string::npos);
  EXPECT_NE(refusal("moe t1 h64 i64 e4 k2 ep=0/3").find("divide the 4"), std::string::npos);
  EXPECT_NE(refusal("moe t1 h64 i64 e4 k2 ep=2/2").find("RANK < RANKS"), std::string::npos);
  EXPECT_NE(refusal("moe t1 h64 i64 e4 k2 fused_alpha").find("act=nvfp4"), std::string::npos);
  EXPECT_NE(refusal("moe t9999999999 h64 i64 e4 k2").find("not known"), std::string::npos);
}

TEST(Preset, AllParseAndCarryTheirFamily) {
  EXPECT_EQ(preset_names().size(), 19U);
  for (const std::string& name : preset_names()) {
    const MoeProblem p = preset(name, 32);
    EXPECT_EQ(p.tokens, 32);
    EXPECT_EQ(parse_problem(to_string(p)), p) << name;
  }
  const MoeProblem v3 = preset("deepseek-v3", 1);
  EXPECT_EQ(to_string(v3),
            "moe t1 h7168 i2048 e256 k8 swiglu deepseek_v3 groups=8 topk_groups=4 scaling=2.5 "
            "fp8_block");
  EXPECT_TRUE(preset("gpt-oss-20b", 1).bias);
  EXPECT_EQ(preset("kimi-k3", 1).config.activation.linear_beta, 25);
  try {
    preset("qwen3-30b", 1);
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("nearest is 'qwen3-30b-a3b'"), std::string::npos);
  }
}

template <class T>
std::vector<T> first(const Tensor& tensor, std::size_t count) {
  return {tensor.as<T>(), tensor.as<T>() + count};
}

TEST(Case, HasTheSameBitsEverywhere) {
  // Numbers of this generator, fixed here: another platform must give them too.
  const MoeCase c = make_case(parse_problem("moe t2 h32 i16 e2 k1 nvfp4 swiglu sigmoid_bias"), 7);
  const MoeCase again =
      make_case(parse_problem("moe t2 h32 i16 e2 k1 nvfp4 swiglu sigmoid_bias"), 7);
  EXPECT_EQ(std::memcmp(c.weights.experts.gate_up.elements.data(),
                        again.weights.experts.gate_up.elements.data(),
                        static_cast<std::size_t>(c.weights.experts.gate_up.elements.bytes())),
            0);
  EXPECT_EQ(first<std::uint16_t>(c.tokens, 4),
            (std::vector<std::uint16_t>{48935, 49009, 16115, 49034}));
  EXPECT_EQ(first<std::uint8_t>(c.weights.experts.gate_up.elements, 4),
            (std::vector<std::uint8_t>{13, 194, 230, 31}));
}

TEST(Case, LoadsShapeTheRouting) {
  const auto counts = [](const char* load) {
    const MoeCase c =
        make_case(parse_problem(std::string("moe t64 h2 i2 e16 k1 bf16 routing_load=") + load), 3);
    std::vector<int> count(16);
    for (int t = 0; t < 64; ++t) {
      const float* row = c.router_logits.as<float>() + t * 16;
      ++count[static_cast<std::size_t>(std::max_element(row, row + 16) - row)];
    }
    return count;
  };
  EXPECT_EQ(counts("balanced"), std::vector<int>(16, 4));
  EXPECT_EQ(counts("hot")[0], 64);
  const std::vector<int> zipf = counts("zipf");
  EXPECT_GT(zipf[0], 4 * zipf[8] + 8);
}

}  // namespace
}  // namespace switchyard
