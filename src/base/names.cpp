#include "base/names.h"

namespace switchyard {
namespace {

using enum RoutingMethod;
constexpr Named<RoutingMethod> kRoutingMethods[] = {
    {softmax, "softmax"},
    {softmax_renormalize, "softmax_renormalize"},
    {topk_softmax, "topk_softmax"},
    {deepseek_v2, "deepseek_v2"},
    {deepseek_v3, "deepseek_v3"},
    {sigmoid_bias, "sigmoid_bias"},
    {minimax2, "minimax2"},
    {llama4, "llama4"},
    {topk, "topk"},
    {sigmoid, "sigmoid"},
    {sigmoid_renormalize, "sigmoid_renormalize"},
    {topk_sigmoid, "topk_sigmoid"},
    {sqrt_softplus_bias, "sqrt_softplus_bias"},
    {hash, "hash"},
    {softmax_bias, "softmax_bias"},
    {sparse_mixer, "sparse_mixer"},
    {adaptive_k, "adaptive_k"},
    {load_balanced, "load_balanced"},
};

constexpr Named<ActivationKind> kActivationKinds[] = {
    {ActivationKind::identity, "identity"},
    {ActivationKind::relu, "relu"},
    {ActivationKind::relu2, "relu2"},
    {ActivationKind::silu, "silu"},
    {ActivationKind::gelu, "gelu"},
    {ActivationKind::swiglu, "swiglu"},
    {ActivationKind::swiglu_oai, "swiglu_oai"},
    {ActivationKind::swiglu_clamp, "swiglu_clamp"},
    {ActivationKind::swiglu_step, "swiglu_step"},
    {ActivationKind::geglu, "geglu"},
    {ActivationKind::geglu_tanh, "geglu_tanh"},
    {ActivationKind::situ, "situ"},
};

constexpr Named<ActivationFormat> kActivationFormats[] = {
    {ActivationFormat::f32, "f32"},
    {ActivationFormat::bf16, "bf16"},
    {ActivationFormat::fp16, "fp16"},
    {ActivationFormat::fp8_tensor, "fp8_tensor"},
    {ActivationFormat::fp8_token, "fp8_token"},
    {ActivationFormat::fp8_block, "fp8_block"},
    {ActivationFormat::nvfp4, "nvfp4"},
    {ActivationFormat::mxfp8, "mxfp8"},
};

}  // namespace

std::span<const Named<RoutingMethod>> routing_methods() noexcept {
  return kRoutingMethods;
}

std::span<const Named<ActivationKind>> activation_kinds() noexcept {
  return kActivationKinds;
}

std::span<const Named<ActivationFormat>> activation_formats() noexcept {
  return kActivationFormats;
}

std::string_view name(RoutingMethod method) noexcept {
  return name_of(routing_methods(), method);
}

std::string_view name(ActivationKind kind) noexcept {
  return name_of(activation_kinds(), kind);
}

std::string_view name(ActivationFormat format) noexcept {
  return name_of(activation_formats(), format);
}

Activation activation(ActivationKind kind) noexcept {
  Activation a{.kind = kind};
  switch (kind) {
    case ActivationKind::swiglu_oai:  // gpt-oss, MiniMax-M3
      a.alpha = 1.702F;
      a.beta = 1;
      a.limit = 7;
      break;
    case ActivationKind::swiglu_clamp:
      a.limit = 10;
      break;  // DeepSeek-V4
    case ActivationKind::swiglu_step:
      a.limit = 7;
      break;
    case ActivationKind::situ:  // Kimi-K3
      a.beta = 4;
      a.linear_beta = 25;
      break;
    default:
      break;
  }
  return a;
}

}  // namespace switchyard
