#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "formats/convert.h"
#include "moe/closeness.h"
#include "moe/reference.h"
#include "switchyard/problem.h"

namespace switchyard {
namespace {

constexpr double kMultiplications = 2e8;
constexpr double kLargestRatio = 2;

ExpertMatrix clone(const ExpertMatrix& m) {
  return {.format = m.format,
          .elements = m.elements.clone(),
          .scales = m.scales.clone(),
          .zeros = m.zeros.clone(),
          .global_scale = m.global_scale.clone(),
          .group_of_column = m.group_of_column.clone(),
          .bias = m.bias.clone(),
          .input_factor = m.input_factor.clone(),
          .input_scale = m.input_scale.clone()};
}

MoeWeights clone(const MoeWeights& w) {
  return {.experts = {clone(w.experts.gate_up), clone(w.experts.down)},
          .shared = {clone(w.shared.gate_up), clone(w.shared.down)},
          .shared_gate = w.shared_gate.clone(),
          .router = w.router.clone(),
          .router_bias = w.router_bias.clone(),
          .correction_bias = w.correction_bias.clone(),
          .hash_table = w.hash_table.clone(),
          .latent_down = w.latent_down.clone(),
          .latent_norm = w.latent_norm.clone(),
          .latent_up = w.latent_up.clone()};
}

/// The tokens to compare: the first, the last and some between, within the budget.
std::vector<std::int64_t> sample(const MoeConfig& config, std::int64_t tokens) {
  const double each =
      static_cast<double>(config.top_k) * 3.0 * config.expert_width() * config.intermediate +
      3.0 * config.hidden * config.shared_intermediate + 2.0 * config.hidden * config.latent + 1;
  const auto count = std::clamp<std::int64_t>(static_cast<std::int64_t>(kMultiplications / each),
                                              std::min<std::int64_t>(tokens, 1), tokens);
  std::vector<std::int64_t> chosen;
  for (std::int64_t i = 0; i < count; ++i)
    chosen.push_back(count == 1 ? 0 : i * (tokens - 1) / (count - 1));
  return chosen;
}

struct Run {
  Tensor out, ids;
  std::vector<double> rows(std::span<const std::int64_t> tokens) const {
    const std::int64_t width = out.shape()[1];
    std::vector<double> values(tokens.size() * static_cast<std::size_t>(width));
    for (std::size_t i = 0; i < tokens.size(); ++i)
      formats::load_run(out.dtype(), out.data(), tokens[i] * width, width,
                        &values[i * static_cast<std::size_t>(width)]);
    return values;
  }
};

/// One run whose output and workspace were filled with `poison` before. A layer on a GPU has memory
/// of its own.
Run run(const MoePlan& plan, const MoeConfig& config, const Device& device, MoeBuffers buffers,
        int poison) {
  Run result;
  const std::int64_t tokens = buffers.tokens.shape[0];
  result.out = Tensor(buffers.out.dtype, {tokens, config.hidden});
  result.ids = Tensor(DType::i32, {tokens, config.top_k});
  std::memset(result.out.data(), poison, static_cast<std::size_t>(result.out.bytes()));
  const std::size_t bytes = device.kind == DeviceKind::cpu ? plan.workspace_bytes() : 0;
  Tensor workspace(DType::u8, {static_cast<std::int64_t>(bytes)});
  std::memset(workspace.data(), poison, static_cast<std::size_t>(workspace.bytes()));
  buffers.out = result.out.view();
  buffers.chosen_ids = result.ids.view();
  buffers.chosen_weights = {};
  buffers.workspace = {static_cast<std::byte*>(workspace.data()), bytes};
  plan.run(buffers);
  return result;
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.bytes())) == 0;
}

double half_step(DType type) {
  return type == DType::bf16 ? 0x1p-9 : type == DType::f16 ? 0x1p-12 : 0x1p-25;
}

}  // namespace

CheckReport check(const MoeConfig& config, const MoeWeights& weights, const MoeBuffers& inputs,
                  Device device) {
  MoeBuffers buffers = inputs;
  if (!buffers.out) buffers.out.dtype = inputs.tokens.dtype;
  const std::int64_t tokens = inputs.tokens.shape[0];
  const MoeLayer layer(config, clone(weights), device);
  const MoePlan plan = layer.plan(static_cast<int>(tokens));
  const Run first = run(plan, config, device, buffers, 0xd5);
  const Run second = run(plan, config, device, buffers, 0x2a);

  using moe::Rounding;
  const std::vector<std::int64_t> chosen = sample(config, tokens);
  const auto definition = [&](Rounding rounding) {
    const moe::Routed routed = moe::reference_route(config, weights, buffers, rounding);
    return std::pair(routed.ids,
                     moe::reference_experts(config, weights, buffers, routed, rounding, chosen));
  };
  const auto [ids, exact] = definition(Rounding::exact);
  const std::vector<double> rounded = definition(Rounding::honest).second;
  const moe::Closeness close =
      moe::compare(first.rows(chosen), rounded, exact, chosen.size(), half_step(buffers.out.dtype));

  CheckReport report;
  report.error_ratio = close.worst_ratio;
  report.max_abs_error = close.max_abs_error;
  report.zeros = close.zeros;
  report.finite_match = close.finite_match;
  report.repeatable = same_bytes(first.out, second.out) && same_bytes(first.ids, second.ids);
  report.routing_exact =
      inputs.expert_ids || std::equal(ids.begin(), ids.end(), first.ids.as<std::int32_t>());
  // A rank may hold none of a token's experts; a whole layer's output of zeros proves nothing.
  const bool telling = close.zeros < 0.5 || !config.expert_map.empty();
  report.passed = report.error_ratio <= kLargestRatio && report.finite_match && report.repeatable &&
                  report.routing_exact && telling;
  return report;
}

CheckReport check(const MoeProblem& problem, std::uint64_t seed, Device device) {
  const MoeCase made = make_case(problem, seed);
  MoeBuffers inputs;
  inputs.tokens = made.tokens.view();
  inputs.router_logits = made.router_logits.view();
  inputs.input_ids = made.input_ids.view();
  CheckReport report = check(made.config, made.weights, inputs, device);
  report.problem = to_string(problem);
  report.seed = seed;
  return report;
}

}  // namespace switchyard
