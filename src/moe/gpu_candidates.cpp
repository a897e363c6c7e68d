#include "moe/gpu_candidates.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace switchyard::moe {
namespace {

/// Both ways to compute a layer whose activations are nvfp4, the cheaper first.
std::vector<GpuExperts> dense_candidates(const GpuShape& shape, int tokens,
                                         const cuda::DeviceInfo& device,
                                         std::vector<std::string>& declined) {
  declined.push_back(
      "grouped_gemm, fused_moe: QUANT_UNSUPPORTED: no kernel multiplies nvfp4 activations by "
      "expert");
  constexpr double kListUs = 1;
  struct Way {
    GpuExperts experts;
    double us;
  };
  std::vector<Way> ways;
  for (const bool active : {true, false}) {
    double us = active ? kListUs : 0;
    DenseTactics t = {.fc1 = {}, .fc2 = {}, .active = active};
    for (const auto phase : {dense_moe::Phase::fc1, dense_moe::Phase::fc2}) {
      dense_moe::GpuProblem p = dense_problem(shape, tokens, phase);
      if (const auto reason = dense_moe::declines(p, device)) {
        declined.push_back(
            fmt::format("dense_moe: {}: {}", dense_moe::name(reason->reason), reason->text));
        return {};
      }
      dense_moe::Tactic& best = phase == dense_moe::Phase::fc1 ? t.fc1 : t.fc2;
      best = dense_moe::tactics(p, device).front();
      if (active) p.experts = std::max(1, static_cast<int>(std::ceil(reached(shape, tokens))));
      us += dense_moe::expected_us(p, best, device);
    }
    ways.push_back({{.fused = {}, .grouped = {}, .dense = t}, us});
  }
  declined.push_back(
      fmt::format("dense_moe over all {} experts: expected to take {:.0f} us, over the {:.0f} that "
                  "random routing reaches {:.0f} us",
                  shape.locals, ways[1].us, reached(shape, tokens), ways[0].us));
  if (ways[1].us < ways[0].us) std::swap(ways[0], ways[1]);
  return {ways[0].experts, ways[1].experts};
}

int block(const GpuExperts& e) {
  return e.fused ? e.fused->block : e.grouped->fc1.block;
}

/// By cost; but of those within 0.5 % of the least, the one with the largest blocks goes first: it
/// reads a popular expert's weights least often (docs/tuning.md).
std::vector<GpuExperts> best_first(const GpuShape& shape, int tokens,
                                   const cuda::DeviceInfo& device, std::vector<GpuExperts> all) {
  const auto cost = [&](const GpuExperts& e) { return expected_cost(shape, tokens, device, e); };
  std::stable_sort(all.begin(), all.end(),
                   [&](const auto& a, const auto& b) { return cost(a) < cost(b); });
  constexpr int kLarge = 144;  // few experts have more tokens
  if (all.empty() || block(all[0]) >= kLarge) return all;
  const auto end =
      std::find_if(all.begin(), all.end(),
                   [&, most = 1.005 * cost(all[0])](const auto& e) { return cost(e) > most; });
  const auto largest = std::max_element(
      all.begin(), end, [](const auto& a, const auto& b) { return block(a) < block(b); });
  std::rotate(all.begin(), largest, largest + 1);
  return all;
}

}  // namespace

grouped_gemm::GpuProblem grouped_problem(const GpuShape& s, int tokens) {
  return {.tokens = tokens,
          .hidden = s.config.hidden,
          .intermediate = s.config.intermediate,
          .lists = s.lists(),
          .slots_a_token = s.slots_a_token(),
          .half = s.half,
          .weights = s.weights,
          .activation = s.activation,
          .bias = s.bias,
          .weight_on_input = s.config.router_weight_on_input};
}

route::GpuProblem route_problem(const GpuShape& s, int tokens, int block) {
  return {.routing = {.tokens = tokens,
                      .experts = s.config.experts,
                      .top_k = s.config.top_k,
                      .routing = s.config.routing},
          .given = false,
          .locals = s.locals,
          .shared = s.shared,
          .half = s.half,
          .block = block};
}

fused_moe::Problem fused_problem(const GpuShape& s, int tokens, const cuda::DeviceInfo& device) {
  const route::GpuProblem routing = route_problem(s, tokens, 0);
  // A shared expert's gate takes a product with the token.
  const bool selects = !s.config.shared_gate && !route::gpu_declines(routing, device);
  return {.tokens = tokens,
          .hidden = s.config.hidden,
          .intermediate = s.config.intermediate,
          .lists = s.lists(),
          .slots_a_token = s.slots_a_token(),
          .half = s.half,
          .weights = s.weights,
          .activation = s.activation,
          .bias = s.bias,
          .weight_on_input = s.config.router_weight_on_input,
          .shared = s.shared,
          .select = selects ? std::optional(route::selection(routing.routing)) : std::nullopt};
}

dense_moe::GpuProblem dense_problem(const GpuShape& s, int tokens, dense_moe::Phase phase) {
  const bool fc1 = phase == dense_moe::Phase::fc1;
  return {.phase = phase,
          .tokens = tokens,
          .experts = s.locals,
          .hidden = s.config.hidden,
          .intermediate = s.config.intermediate,
          .out = fc1 ? dense_moe::Out::fp4 : dense_moe::Out::bf16,
          .post = fc1 && s.config.fused_alpha};
}

double reached(const GpuShape& s, int tokens) {
  const double share = static_cast<double>(s.config.top_k) / s.config.experts;
  return s.locals * (1 - std::pow(1 - share, tokens)) + s.shared;
}

std::string to_string(const GpuExperts& e) {
  if (e.fused) return to_string(*e.fused);
  if (e.dense)
    return fmt::format("dense over {} experts, {}, {}", e.dense->active ? "active" : "all",
                       to_string(e.dense->fc1), to_string(e.dense->fc2));
  return fmt::format("{}, {}, spans {} x {}", to_string(e.grouped->fc1), to_string(e.grouped->fc2),
                     e.grouped->spans.slots, e.grouped->spans.width);
}

std::string tactic(const GpuExperts& e) {
  if (e.dense) return to_string(e);
  if (e.grouped) return to_string(e.grouped->fc1);
  return fmt::format("fused block {} depth {} stages {} ctas {}", e.fused->block, e.fused->depth,
                     e.fused->stages, e.fused->ctas);
}

double expected_cost(const GpuShape& shape, int tokens, const cuda::DeviceInfo& device,
                     const GpuExperts& e) {
  return e.fused
             ? expected_cost(fused_problem(shape, tokens, device), *e.fused)
             : expected_cost(grouped_problem(shape, tokens), *e.grouped, device.multiprocessors);
}

std::vector<GpuExperts> gpu_candidates(const GpuShape& shape, int tokens,
                                       const cuda::DeviceInfo& device,
                                       std::vector<std::string>& declined) {
  if (shape.dense) return dense_candidates(shape, tokens, device, declined);
  std::vector<GpuExperts> all;
  declined.push_back("dense_moe: QUANT_UNSUPPORTED: it multiplies nvfp4 activations alone");
  const fused_moe::Problem fused = fused_problem(shape, tokens, device);
  if (const auto reason = fused_moe::declines(fused, device)) {
    declined.push_back(*reason);
  } else {
    for (const auto& config : fused_moe::candidates(fused, device))
      all.push_back({.fused = config, .grouped = {}, .dense = {}});
  }
  const grouped_gemm::GpuProblem grouped = grouped_problem(shape, tokens);
  if (const auto reason = grouped_gemm::gpu_declines(grouped, device)) {
    declined.push_back(*reason);
  } else {
    for (const auto& configs : grouped_gemm::gpu_candidates(grouped, device))
      all.push_back({.fused = {}, .grouped = configs, .dense = {}});
  }
  return best_first(shape, tokens, device, std::move(all));
}

}  // namespace switchyard::moe
