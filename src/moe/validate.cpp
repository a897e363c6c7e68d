#include <cmath>

#include "base/check.h"
#include "formats/convert.h"
#include "moe/plan.h"
#include "ops/route/problem.h"

namespace switchyard::moe {
namespace {

void expect_float(const Tensor& tensor, std::string_view what, const Shape& shape) {
  require(formats::is_plain_float(tensor.dtype()) && tensor.shape() == shape,
          "[moe] {}: expected {} in f32, bf16 or f16, got {} {}.", what, to_string(shape),
          name(tensor.dtype()), to_string(tensor.shape()));
}

void expect(const Tensor& tensor, std::string_view what, DType dtype, const Shape& shape) {
  require(tensor.dtype() == dtype && tensor.shape() == shape,
          "[moe] {}: expected {} {}, got {} {}.", what, name(dtype), to_string(shape),
          name(tensor.dtype()), to_string(tensor.shape()));
}

void expect_present(bool wanted, const Tensor& tensor, std::string_view what,
                    std::string_view option) {
  require(!wanted || tensor, "[moe] {}: expected a tensor because of {}, got none.", what, option);
  require(wanted || !tensor, "[moe] {}: expected none without {}, got {}.", what, option,
          to_string(tensor.shape()));
}

void validate_numbers(const MoeConfig& config) {
  require(config.hidden > 0, "[moe] hidden: expected at least 1, got {}.", config.hidden);
  require(config.intermediate > 0, "[moe] intermediate: expected at least 1, got {}.",
          config.intermediate);
  require(config.latent >= 0, "[moe] latent: expected 0 (none) or more, got {}.", config.latent);
  require(config.shared_intermediate >= 0,
          "[moe] shared_intermediate: expected 0 (none) or more, got {}.",
          config.shared_intermediate);
  require(!config.fused_alpha || !config.router_weight_on_input,
          "[moe] fused_alpha: expected router_weight_on_input off, both apply the router weight.");
  route::check(
      {.tokens = 0, .experts = config.experts, .top_k = config.top_k, .routing = config.routing},
      "moe");
}

void validate_map(const MoeConfig& config, std::int64_t local) {
  if (config.expert_map.empty()) {
    require(local == config.experts,
            "[moe] experts: the config has {}, the weights {}. Set expert_map if this rank holds "
            "a part of them.",
            config.experts, local);
    return;
  }
  const auto size = static_cast<std::int64_t>(config.expert_map.size());
  require(size >= config.experts && size <= config.experts + config.routing.zero_experts,
          "[moe] expert_map: expected {} entries, got {}.", config.experts, size);
  for (std::int64_t e = 0; e < size; ++e) {
    const int to = config.expert_map[static_cast<std::size_t>(e)];
    const std::int64_t limit = e < config.experts ? local : 1;
    require(to >= -1 && to < limit, "[moe] expert_map[{}]: expected -1 or [0, {}), got {}.", e,
            limit, to);
  }
}

void validate_input_scale(const ExpertMatrix& matrix, std::string_view what) {
  if (!matrix.input_scale) return;
  for (std::int64_t i = 0; i < matrix.input_scale.shape().elements(); ++i) {
    const float scale = matrix.input_scale.as<float>()[i];
    require(scale > 0 && std::isfinite(scale),
            "[moe] {}.input_scale[{}]: expected a positive number, got {}.", what, i, scale);
  }
}

void validate_experts(const ExpertWeights& experts, std::string_view what, std::int64_t width,
                      std::int64_t intermediate, bool gated) {
  const std::string gate_up = fmt::format("{}.gate_up", what);
  const std::string down = fmt::format("{}.down", what);
  check(experts.gate_up, gate_up);
  check(experts.down, down);
  const std::int64_t count = experts.gate_up.experts();
  const Shape up_shape{count, gated ? 2 * intermediate : intermediate, width};
  const Shape down_shape{count, width, intermediate};
  require(experts.gate_up.elements.shape() == up_shape,
          "[moe] {}: expected {}, got {}. The activation {} a gate.", gate_up, to_string(up_shape),
          to_string(experts.gate_up.elements.shape()), gated ? "has" : "has not");
  require(experts.down.elements.shape() == down_shape, "[moe] {}: expected {}, got {}.", down,
          to_string(down_shape), to_string(experts.down.elements.shape()));
  validate_input_scale(experts.gate_up, gate_up);
  validate_input_scale(experts.down, down);
}

void validate_router(const MoeConfig& config, const MoeWeights& weights) {
  const std::int64_t scores = config.experts + config.routing.zero_experts;
  if (weights.router) expect_float(weights.router, "router", {scores, config.hidden});
  if (weights.router_bias) expect(weights.router_bias, "router_bias", DType::f32, {scores});
  if (weights.correction_bias)
    expect(weights.correction_bias, "correction_bias", DType::f32, {scores});
  if (!weights.hash_table) return;
  const Shape& shape = weights.hash_table.shape();
  const std::int64_t vocabulary = shape.rank() == 2 ? shape[0] : 0;
  expect(weights.hash_table, "hash_table", DType::i32, {vocabulary, config.top_k});
}

void validate_latent(const MoeConfig& config, const MoeWeights& weights) {
  const bool latent = config.latent > 0;
  expect_present(latent, weights.latent_down, "latent_down", "latent > 0");
  expect_present(latent, weights.latent_up, "latent_up", "latent > 0");
  require(latent || !weights.latent_norm, "[moe] latent_norm: expected none without latent > 0.");
  if (!latent) return;
  expect_float(weights.latent_down, "latent_down", {config.latent, config.hidden});
  expect_float(weights.latent_up, "latent_up", {config.hidden, config.latent});
  if (weights.latent_norm) expect(weights.latent_norm, "latent_norm", DType::f32, {config.latent});
}

void validate_shared(const MoeConfig& config, const MoeWeights& weights) {
  const bool shared = config.shared_intermediate > 0;
  expect_present(shared, weights.shared.gate_up.elements, "shared.gate_up",
                 "shared_intermediate > 0");
  expect_present(shared, weights.shared.down.elements, "shared.down", "shared_intermediate > 0");
  expect_present(config.shared_gate, weights.shared_gate, "shared_gate", "shared_gate");
  require(!config.shared_gate || shared,
          "[moe] shared_gate: expected a shared expert, got shared_intermediate = 0.");
  if (config.shared_gate) expect(weights.shared_gate, "shared_gate", DType::f32, {config.hidden});
  if (!shared) return;
  validate_experts(weights.shared, "shared", config.hidden, config.shared_intermediate,
                   config.activation.gated());
  require(weights.shared.gate_up.experts() == 1, "[moe] shared: expected 1 expert, got {}.",
          weights.shared.gate_up.experts());
}

}  // namespace

void validate(const MoeConfig& config, const MoeWeights& weights) {
  validate_numbers(config);
  validate_experts(weights.experts, "experts", config.expert_width(), config.intermediate,
                   config.activation.gated());
  validate_map(config, weights.experts.gate_up.experts());
  validate_router(config, weights);
  validate_latent(config, weights);
  validate_shared(config, weights);
}

}  // namespace switchyard::moe
