#include "ops/route/plan.h"

#include <fmt/format.h>

#include "base/math.h"

namespace switchyard::route {
namespace {

Score score_of(Rule::Score score) {
  switch (score) {
    case Rule::Score::logit:
      return Score::logits;
    case Rule::Score::softmax:
      return Score::softmax;
    case Rule::Score::sigmoid:
      return Score::sigmoid;
    case Rule::Score::sqrt_softplus:
      return Score::sqrt_softplus;
  }
  return Score::logits;
}

Normalize normalize_of(const Routing& routing) {
  switch (rule(routing.method).weight) {
    case Rule::Weight::score:
      return Normalize::none;
    case Rule::Weight::normalized:
      return Normalize::sum;
    case Rule::Weight::if_renormalize:
      return routing.renormalize ? Normalize::sum : Normalize::none;
    case Rule::Weight::selected_softmax:
      return Normalize::softmax;
  }
  return Normalize::none;
}

}  // namespace

std::optional<std::string> small_batch_declines(const Problem& p, const cuda::DeviceInfo& device) {
  if (device.sm < 80) return fmt::format("needs sm_80, the device is sm_{}", device.sm);
  if (p.tokens > Config::kMaxTokens)
    return fmt::format("serves at most {} tokens, got {}", Config::kMaxTokens, p.tokens);
  if (p.experts > Config::kMaxExperts)
    return fmt::format("serves at most {} experts, got {}", Config::kMaxExperts, p.experts);
  if (p.top_k > 32) return fmt::format("serves top_k up to 32, got {}", p.top_k);
  if (p.routing.zero_experts > 0) return "has no zero experts";
  switch (p.routing.method) {
    case RoutingMethod::sparse_mixer:
    case RoutingMethod::adaptive_k:
    case RoutingMethod::hash:
    case RoutingMethod::load_balanced:
      return fmt::format("has no rule for {}", name(p.routing.method));
    default:
      break;
  }
  if (rule(p.routing.method).groups == Rule::Groups::maximum)
    return "ranks groups by the sum of two, not by the maximum";
  if (p.routing.groups > 32) return fmt::format("serves up to 32 groups, got {}", p.routing.groups);
  return std::nullopt;
}

Config small_batch_config(const Problem& p, int block) {
  const Rule r = rule(p.routing.method);
  const bool grouped = r.groups != Rule::Groups::none && p.routing.groups > 1;
  // The softmax over the chosen is taken of their logits.
  const bool of_logits = r.weight == Rule::Weight::selected_softmax;
  return {.top_k = p.top_k,
          .per_lane = ceil_div(p.experts, 32),
          .score = of_logits ? Score::logits : score_of(r.score),
          .normalize = normalize_of(p.routing),
          .groups = grouped ? p.routing.groups : 1,
          .topk_groups = grouped ? p.routing.topk_groups : 1,
          .group_size = grouped ? p.experts / p.routing.groups : 0,
          .bf16_logits = false,
          .block = block};
}

jit::Program program(const Config& c, int sm) {
  return {.file = "ops/route/kernel.cuh",
          .instance = fmt::format("switchyard::route::kernel<switchyard::route::Config{{{}, {}, "
                                  "switchyard::route::Score({}), switchyard::route::Normalize({}), "
                                  "{}, {}, {}, {}, {}}}>",
                                  c.top_k, c.per_lane, static_cast<int>(c.score),
                                  static_cast<int>(c.normalize), c.groups, c.topk_groups,
                                  c.group_size, c.bf16_logits, c.block),
          .arch = jit::architecture(sm),
          .options = {}};
}

jit::Launch launch(const Config& c, jit::Kernel kernel) {
  return {.kernel = std::move(kernel),
          .grid = {1},
          .block = {Config::kThreads},
          .cluster = {},
          .smem_bytes = c.groups > 1 ? 32 * c.groups * c.group_size * 4 : 0,
          .overlap_previous = false};
}

}  // namespace switchyard::route
