// Layer shapes of published models, as problem lines without tokens.

#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "base/words.h"
#include "switchyard/problem.h"

namespace switchyard {
namespace {

struct Preset {
  std::string_view name;
  std::string_view line;  // what follows "moe tN"
};

constexpr Preset kPresets[] = {
    {"mixtral-8x7b", "h4096 i14336 e8 k2 bf16 swiglu softmax_renormalize"},
    {"qwen3-30b-a3b", "h2048 i768 e128 k8 bf16 swiglu softmax_renormalize"},
    {"qwen3-235b-a22b", "h4096 i1536 e128 k8 bf16 swiglu softmax_renormalize"},
    {"qwen3-next-80b", "h2048 i512 e512 k10 bf16 swiglu softmax_renormalize"},
    {"qwen3.5-397b-a17b", "h4096 i1024 e512 k10 bf16 swiglu softmax_renormalize"},
    {"deepseek-v3",
     "h7168 i2048 e256 k8 fp8_block swiglu deepseek_v3 groups=8 topk_groups=4 scaling=2.5"},
    {"deepseek-v3-tp8",
     "h7168 i256 e256 k8 nvfp4 swiglu deepseek_v3 groups=8 topk_groups=4 scaling=2.5"},
    {"deepseek-v4-flash", "h4096 i2048 e256 k6 mxfp4 swiglu_clamp sqrt_softplus_bias scaling=1.5"},
    {"gpt-oss-20b", "h2880 i2880 e32 k4 mxfp4 swiglu_oai topk_softmax bias"},
    {"gpt-oss-120b", "h2880 i2880 e128 k4 mxfp4 swiglu_oai topk_softmax bias"},
    {"kimi-k2", "h7168 i2048 e384 k8 fp8_block swiglu sigmoid_bias scaling=2.827"},
    {"kimi-k3", "h3584 i3072 e896 k16 mxfp4 situ sigmoid_bias"},
    {"glm-4.5-air", "h4096 i1408 e128 k8 bf16 swiglu sigmoid_bias"},
    {"glm-5", "h6144 i2048 e256 k8 nvfp4 swiglu sigmoid_bias scaling=2.5"},
    {"minimax-m3", "h6144 i3072 e128 k4 nvfp4 swiglu_oai sigmoid_bias scaling=2"},
    {"nemotron-3-nano", "h2688 i1856 e128 k6 nvfp4 relu2 sigmoid_bias scaling=2.5"},
    {"nemotron-3-super", "h1024 i2688 e512 k22 nvfp4 relu2 sigmoid_bias scaling=5"},
    {"llama4-scout", "h5120 i8192 e16 k1 bf16 swiglu llama4"},
    {"gemma4-26b-a4b", "h2816 i704 e128 k8 bf16 geglu_tanh softmax_renormalize"},
};

}  // namespace

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const Preset& preset : kPresets) names.emplace_back(preset.name);
  return names;
}

MoeProblem preset(std::string_view name, int tokens) {
  require(tokens >= 0, "[preset] tokens: expected a count, got {}.", tokens);
  for (const Preset& preset : kPresets)
    if (preset.name == name) return parse_problem(fmt::format("moe t{} {}", tokens, preset.line));
  const std::vector<std::string> names = preset_names();
  throw InvalidArgument(
      fmt::format("[preset] '{}' is not known. The nearest is '{}'; there are {}.", name,
                  nearest(name, names), fmt::join(names, ", ")));
}

}  // namespace switchyard
