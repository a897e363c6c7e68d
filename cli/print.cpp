#include "cli/print.h"

#include <fmt/format.h>

#include <cstdio>

namespace switchyard::cli {

std::string human_bytes(std::int64_t bytes) {
  constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit < 4; ++unit) value /= 1024;
  return unit == 0 ? fmt::format("{} bytes", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string human_time(double us) {
  if (us < 1) return fmt::format("{:.0f} ns", us * 1e3);
  if (us < 1e3) return fmt::format("{:.1f} us", us);
  if (us < 1e6) return fmt::format("{:.1f} ms", us / 1e3);
  return fmt::format("{:.2f} s", us / 1e6);
}

std::string describe(const MoeConfig& config) {
  std::string text = fmt::format("{} experts, top-{} by {}", config.experts, config.top_k,
                                 name(config.routing.method));
  if (config.routing.groups > 1)
    text += fmt::format(" ({} of {} groups)", config.routing.topk_groups, config.routing.groups);
  if (config.routing.scaling != 1) text += fmt::format(" x {}", config.routing.scaling);
  text += fmt::format(", {}, H {}, I {}", name(config.activation.kind), config.hidden,
                      config.intermediate);
  if (config.latent > 0) text += fmt::format(", latent {}", config.latent);
  if (config.routing.zero_experts > 0)
    text += fmt::format(", {} zero experts", config.routing.zero_experts);
  if (config.shared_intermediate > 0)
    text += fmt::format(", shared expert I {}{}", config.shared_intermediate,
                        config.shared_gate ? " with a gate" : "");
  return text;
}

std::string formats(const CheckpointLayer& layer) {
  const std::string gate_up = to_string(layer.gate_up), down = to_string(layer.down);
  return gate_up == down ? gate_up : gate_up + " / " + down;
}

Json to_json(const MoeConfig& config) {
  Json json = {{"hidden", config.hidden},
               {"latent", config.latent},
               {"intermediate", config.intermediate},
               {"experts", config.experts},
               {"top_k", config.top_k},
               {"routing",
                {{"method", name(config.routing.method)},
                 {"groups", config.routing.groups},
                 {"topk_groups", config.routing.topk_groups},
                 {"scaling", config.routing.scaling},
                 {"renormalize", config.routing.renormalize},
                 {"zero_experts", config.routing.zero_experts}}},
               {"activation",
                {{"kind", name(config.activation.kind)},
                 {"alpha", config.activation.alpha},
                 {"beta", config.activation.beta},
                 {"linear_beta", config.activation.linear_beta}}},
               {"activation_format", name(config.act)},
               {"router_weight_on_input", config.router_weight_on_input},
               {"shared_intermediate", config.shared_intermediate},
               {"shared_gate", config.shared_gate}};
  // JSON has no infinity: an absent limit is null.
  const float limit = config.activation.limit;
  json["activation"]["limit"] =
      limit < std::numeric_limits<float>::infinity() ? Json(limit) : Json(nullptr);
  return json;
}

Json to_json(const CheckpointLayer& layer) {
  return {{"layer", layer.layer},
          {"prefix", layer.prefix},
          {"scheme", layer.scheme},
          {"gate_up_format", to_string(layer.gate_up)},
          {"down_format", to_string(layer.down)},
          {"expert_bytes", layer.expert_bytes},
          {"other_bytes", layer.other_bytes},
          {"config", to_json(layer.config)}};
}

Json to_json(const CheckReport& report) {
  return {{"problem", report.problem},
          {"seed", report.seed},
          {"passed", report.passed},
          {"error_ratio", report.error_ratio},
          {"max_abs_error", report.max_abs_error},
          {"zeros", report.zeros},
          {"finite_match", report.finite_match},
          {"repeatable", report.repeatable},
          {"routing_exact", report.routing_exact}};
}

std::string describe(const CheckReport& report) {
  const bool says_nothing = !report.passed && report.zeros >= 0.5;
  return fmt::format(
      "{}: error {:.2f} (at most 2 times an honest run's), routing {}, {}, {}{}",
      report.passed ? "passed" : "FAILED", report.error_ratio,
      report.routing_exact ? "exact" : "DIFFERS",
      report.repeatable ? "same bits twice" : "NOT repeatable",
      report.finite_match ? "finite where it should be" : "NaN or infinity in the wrong place",
      says_nothing ? fmt::format("; {:.0f} % of the output must be 0, which proves nothing: use "
                                 "other tokens",
                                 report.zeros * 100)
                   : "");
}

void print(const Json& json) {
  fmt::print("{}\n", json.dump(2));
}

}  // namespace switchyard::cli
