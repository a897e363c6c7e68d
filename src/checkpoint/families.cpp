#include "checkpoint/families.h"

#include <algorithm>

#include "base/check.h"

namespace switchyard::checkpoint {
namespace {

using enum RoutingMethod;
using enum ActivationKind;

constexpr FusedOrder kColumns = FusedOrder::columns;
constexpr GateUpOrder kInterleaved = GateUpOrder::interleaved, kGateFirst = GateUpOrder::gate_first;

// clang-format off
constexpr Family kFamilies[] = {
    // name             model_type                                       routing              renorm activation
    {"mixtral",         "mixtral minimax minimax_text_01 minimax_m1",    softmax_renormalize, true,  swiglu},
    {"phimoe",          "phimoe",                                        sparse_mixer,        false, swiglu},
    {"qwen2_moe",       "qwen2_moe",                                     softmax,             false, swiglu},
    {"qwen3_moe",       "qwen3_moe",                                     softmax,             false, swiglu},
    {"qwen3_next",      "qwen3_next",                                    softmax,             true,  swiglu},
    {"qwen3_5_moe",     "qwen3_5_moe qwen3_5_moe_text",                  softmax,             true,  swiglu},
    {"qwen3_vl_moe",    "qwen3_vl_moe qwen3_vl_moe_text qwen3_omni_moe qwen3_omni_moe_text qwen3_omni_moe_thinker",
                                                                         softmax,             true,  swiglu, kColumns},
    {"olmoe",           "olmoe flex_olmo",                               softmax,             false, swiglu},
    {"deepseek_v2",     "deepseek_v2 deepseek_vl_v2",                    RoutingMethod::deepseek_v2, false, swiglu},
    {"deepseek_v3",     "deepseek_v3 deepseek_v32",                      sigmoid_bias,        true,  swiglu},
    {"deepseek_v4",     "deepseek_v4 deepseek_v41 deepseek_v4_1",        sqrt_softplus_bias,  true,  swiglu_clamp,
                                                                         FusedOrder::rows, kGateFirst, true},
    {"glm4_moe",        "glm4_moe glm4_moe_lite glm4v_moe glm4v_moe_text glm_moe_dsa glm5_moe",
                                                                         sigmoid_bias,        true,  swiglu},
    {"dots1",           "dots1",                                         sigmoid_bias,        true,  swiglu},
    {"bailing_moe_v2",  "bailing_moe_v2 bailing_moe_linear",             sigmoid_bias,        true,  swiglu},
    {"kimi_k2",         "kimi_k2 kimi_k25 kimi_linear",                  sigmoid_bias,        true,  swiglu},
    {"kimi_k3",         "kimi_k3 kimi_k3_text kimi_k31",                 sigmoid_bias,        true,  situ},
    {"gpt_oss",         "gpt_oss",                                       topk_softmax,        true,  swiglu_oai, kColumns, kInterleaved},
    {"llama4",          "llama4 llama4_text",                            RoutingMethod::llama4, false, swiglu, kColumns},
    {"minimax_m2",      "minimax_m2",                                    minimax2,            true,  swiglu},
    {"minimax_m3",      "minimax_m3 minimax_m3_text minimax_m3_vl minimax_m3_vl_text",
                                                                         sigmoid_bias,        true,  swiglu_oai},
    {"nemotron_h",      "nemotron_h",                                    sigmoid_bias,        true,  relu2},
    {"lfm2_moe",        "lfm2_moe",                                      sigmoid_bias,        true,  swiglu},
    {"longcat_flash",   "longcat_flash",                                 softmax_bias,        false, swiglu},
    {"mistral_large_3", "mistral_large_3 mistral4",                      RoutingMethod::deepseek_v2, true, swiglu},
};

/// Tensors that tell the family where config.json does not: DeepSeek's and OpenAI's own files.
struct Signature { std::string_view leaf, family; };
constexpr Signature kSignatures[] = {
    {"mlp1_bias",                        "gpt_oss"},
    {"experts.gate_up_proj_blocks",      "gpt_oss"},
    {"gate.tid2eid",                     "deepseek_v4"},
    {"routed_expert_norm.weight",        "kimi_k3"},
    {"fc1_latent_proj.weight",           "nemotron_h"},
};

/// hidden_act for families whose experts have a gate, and for those that have none.
struct NamedActivation { std::string_view name; ActivationKind gated, plain; };
constexpr NamedActivation kActivations[] = {
    {"silu",              swiglu,     silu},
    {"swish",             swiglu,     silu},
    {"gelu",              geglu,      gelu},
    {"gelu_new",          geglu_tanh, gelu},
    {"gelu_pytorch_tanh", geglu_tanh, gelu},
    {"relu2",             relu2,      relu2},
    {"relu",              relu,       relu},
};
// clang-format on

const Family* by_name(std::string_view name) {
  const auto place = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                  [&](const Family& family) { return family.name == name; });
  return place == std::end(kFamilies) ? nullptr : place;
}

const Family* by_model_type(std::string_view type) {
  for (const Family& family : kFamilies) {
    std::string_view rest = family.model_types;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find(' '), rest.size());
      if (rest.substr(0, end) == type) return &family;
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  return nullptr;
}

RoutingMethod routing_method(const Family& family, const Json& config, const Routing& routing) {
  const std::string scores = text(config, {"scoring_func", "score_func"}).value_or("");
  RoutingMethod method = family.routing;
  if (method == sigmoid_bias && scores == "softmax") method = RoutingMethod::deepseek_v2;
  if (method == RoutingMethod::deepseek_v2 && scores == "sigmoid") method = sigmoid_bias;
  if (method == sigmoid_bias && routing.groups > 1) method = deepseek_v3;
  if (method == softmax && routing.renormalize) method = softmax_renormalize;
  return method;
}

Routing read_routing(const Family& family, const Json& config) {
  Routing routing;
  routing.renormalize = flag(config, {"norm_topk_prob", "moe_renormalize", "route_norm"})
                            .value_or(family.renormalize);
  routing.scaling = static_cast<float>(
      number(config, {"routed_scaling_factor", "route_scale", "router_scaling_factor"})
          .value_or(1));
  const std::string topk = text(config, {"topk_method"}).value_or("");
  if (topk != "greedy") {
    routing.groups =
        std::max(1, count(config, {"n_group", "num_expert_group", "n_expert_groups"}).value_or(1));
    routing.topk_groups =
        std::max(1, count(config, {"topk_group", "n_limited_groups"}).value_or(1));
  }
  routing.zero_experts = count(config, {"zero_expert_num"}).value_or(0);
  routing.method = routing_method(family, config, routing);
  return routing;
}

Activation read_activation(const Family& family, const Json& config) {
  Activation result = activation(family.activation);
  const std::string name =
      text(config, {"mlp_hidden_act", "hidden_act", "hidden_activation"}).value_or("silu");
  const auto limit = number(config, {"swiglu_limit"});
  const auto named =
      std::find_if(std::begin(kActivations), std::end(kActivations),
                   [&](const NamedActivation& candidate) { return candidate.name == name; });
  const bool own = family.activation != swiglu;  // the family's formula, whatever hidden_act says
  if (!own && named == std::end(kActivations))
    throw Unsupported(fmt::format(
        "[checkpoint] config.json: hidden_act '{}': expected silu, gelu, gelu_pytorch_tanh, relu "
        "or relu2. This activation has no formula here.",
        name));
  if (!own) result = activation(named->gated);
  if (family.activation == relu2 && named != std::end(kActivations))
    result = activation(named->plain);
  if (limit && *limit > 0 && result.kind != situ) result.limit = static_cast<float>(*limit);
  if (result.kind == swiglu_clamp && !limit) result = activation(swiglu);
  if (result.kind == swiglu && limit && *limit > 0) result.kind = swiglu_clamp;
  if (const auto alpha = number(config, {"swiglu_alpha"}); alpha && result.kind == swiglu_oai)
    result.alpha = static_cast<float>(*alpha);
  if (const auto beta = number(config, {"activation_situ_beta"}))
    result.beta = static_cast<float>(*beta);
  if (const auto beta = number(config, {"activation_situ_linear_beta"}))
    result.linear_beta = static_cast<float>(*beta);
  return result;
}

}  // namespace

const Family& find_family(const ModelConfig& config, const LayerTensors& layer) {
  for (const std::string& type : config.model_types)
    if (const Family* const family = by_model_type(type)) return *family;
  for (const Signature& signature : kSignatures)
    if (layer.find(signature.leaf, false)) return *by_name(signature.family);
  std::string names;
  for (const Family& family : kFamilies)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", family.model_types);
  throw Unsupported(fmt::format(
      "[checkpoint] config.json: model_type: expected one of {}; got '{}'. The weights may be "
      "readable, but how this model routes is not known here.",
      names, config.model_types.empty() ? "none" : config.model_types.front()));
}

MoeConfig base_config(const Family& family, const ModelConfig& config) {
  const Json& json = config.language;
  MoeConfig result;
  const auto top_k =
      count(json, {"num_experts_per_tok", "experts_per_token", "num_experts_per_token",
                   "n_activated_experts", "moe_topk", "moe_k"});
  require(top_k.has_value() && *top_k > 0,
          "[checkpoint] config.json: num_experts_per_tok: expected a positive count, got {}. Add "
          "it to the file.",
          top_k ? std::to_string(*top_k) : "nothing");
  result.top_k = *top_k;
  result.routing = read_routing(family, json);
  result.activation = read_activation(family, json);
  result.router_weight_on_input = family.routing == RoutingMethod::llama4;
  if (const auto epsilon = number(json, {"rms_norm_eps", "layer_norm_epsilon", "norm_eps"}))
    result.norm_epsilon = static_cast<float>(*epsilon);
  result.act = config.dtype == "float16"   ? ActivationFormat::fp16
               : config.dtype == "float32" ? ActivationFormat::f32
                                           : ActivationFormat::bf16;
  return result;
}

}  // namespace switchyard::checkpoint
