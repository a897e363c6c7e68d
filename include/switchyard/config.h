#pragma once

#include <limits>
#include <string_view>
#include <vector>

namespace switchyard {

/// How logits z [E] become K experts and their weights. p is the score, b the correction bias.
enum class RoutingMethod {
  softmax,              ///< top-k of softmax(z), weights p as they are
  softmax_renormalize,  ///< top-k of softmax(z), p / sum p. Mixtral, Qwen3
  topk_softmax,         ///< top-k of z, softmax over the K. gpt-oss (the same weights)
  deepseek_v2,          ///< softmax; groups by their maximum
  deepseek_v3,          ///< sigmoid + b; groups by the sum of their top 2; p / sum p * scaling
  sigmoid_bias,         ///< deepseek_v3 without groups. GLM, Kimi, Nemotron
  minimax2,             ///< sigmoid + b, p / sum p
  llama4,               ///< top-k of z, sigmoid(z); multiplies the expert's input
  topk,                 ///< top-k of z, z itself
  sigmoid,              ///< top-k of sigmoid(z), p
  sigmoid_renormalize,  ///< top-k of sigmoid(z), p / sum p
  topk_sigmoid,         ///< top-k of z, sigmoid(z)
  sqrt_softplus_bias,   ///< sqrt(softplus(z)) + b, p / sum p * scaling. DeepSeek-V4
  hash,                 ///< experts from the table [vocabulary, K] by input id; weights as above
  softmax_bias,         ///< softmax + b, p * scaling; zero experts. LongCat
  sparse_mixer,         ///< Phi-3.5-MoE
  adaptive_k,           ///< softmax; K from the entropy, unused slots have id -1
  load_balanced,        ///< expert (token * K + slot) % E, weight 1: for benchmarks
};

struct Routing {
  RoutingMethod method = RoutingMethod::softmax_renormalize;
  int groups = 1, topk_groups = 1;
  float scaling = 1;  ///< multiplies every method's weights but load_balanced's
  /// p / sum p or p (norm_topk_prob): deepseek_v2, deepseek_v3, sigmoid_bias, sqrt_softplus_bias,
  /// hash. The other methods do what their line says.
  bool renormalize = true;
  int zero_experts = 0;  ///< ids E..E+n-1 return their input (identity experts)

  friend bool operator==(const Routing&, const Routing&) = default;
};

enum class ActivationKind {
  identity,
  relu,
  relu2,
  silu,
  gelu,  // without a gate
  swiglu,
  swiglu_oai,
  swiglu_clamp,
  swiglu_step,
  geglu,
  geglu_tanh,
  situ,
};

/// g gate, u up. swiglu_oai: min(g, limit) * sigmoid(alpha * min(g, limit)) *
/// (clamp(u, +-limit) + beta); swiglu_clamp is the same with alpha 1, beta 0;
/// swiglu_step: min(silu(g), limit) * clamp(u, +-limit);
/// situ: beta * tanh(g / beta) * sigmoid(g) * linear_beta * tanh(u / linear_beta).
struct Activation {
  ActivationKind kind = ActivationKind::swiglu;
  float alpha = 1;
  float beta = 0;
  float limit = std::numeric_limits<float>::infinity();
  float linear_beta = 0;

  bool gated() const noexcept { return kind >= ActivationKind::swiglu; }
  friend bool operator==(const Activation&, const Activation&) = default;
};

/// The kind with its family's constants (swiglu_oai 1.702/1/7, swiglu_clamp limit 10, ...).
Activation activation(ActivationKind kind) noexcept;

/// What the input of each GEMM is rounded to. `bf16` and `fp16` are the W4A16 family. fp8_tensor
/// and nvfp4 use one static scale, the largest input_scale of the experts; without one, each row
/// has a scale of its own values. Inputs of weights without scales are stored as bf16, never
/// quantised.
enum class ActivationFormat { f32, bf16, fp16, fp8_tensor, fp8_token, fp8_block, nvfp4, mxfp8 };

/// One MoE layer's mathematics, independent of weights and batch.
struct MoeConfig {
  int hidden = 0;        ///< H, the model's width
  int latent = 0;        ///< expert input width if it differs from H (latent MoE); 0 = H
  int intermediate = 0;  ///< I of this rank
  int experts = 0;       ///< E that the router knows
  int top_k = 0;
  Routing routing;
  Activation activation;
  ActivationFormat act = ActivationFormat::bf16;
  bool router_weight_on_input = false;  ///< multiplies the expert's input, not its output
  /// act nvfp4: router weight before the second quantisation; not under tensor parallelism
  bool fused_alpha = false;
  bool dense = false;           ///< every token through every expert (the DenseGEMM formulation)
  int shared_intermediate = 0;  ///< shared expert's I; 0 = none
  bool shared_gate = false;     ///< shared expert times sigmoid(x . gate)
  float norm_epsilon = 1e-6F;   ///< latent MoE's RMSNorm, if the weights have one
  /// [E] local expert or -1 (another rank); empty = identity. May go on for the zero experts:
  /// 0 = here, -1 = another rank; without these entries they are here.
  std::vector<int> expert_map;

  int expert_width() const noexcept { return latent > 0 ? latent : hidden; }
  friend bool operator==(const MoeConfig&, const MoeConfig&) = default;
};

/// Names as problem lines spell them: "deepseek_v3", "swiglu_oai", "fp8_block".
std::string_view name(RoutingMethod method) noexcept;
std::string_view name(ActivationKind kind) noexcept;
std::string_view name(ActivationFormat format) noexcept;

}  // namespace switchyard
