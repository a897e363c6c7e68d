#include "ops/route/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/math.h"

namespace switchyard::route {
namespace {

/// One launch could serve Config::kCluster * Config::kRound tokens; from here on its few CTAs take
/// longer than a second launch does.
constexpr int kMaxOneLaunch = 128;
constexpr int kWarps = Config::kThreads / 32;

constexpr std::string_view kStages[] = {"select", "group", "both"};
constexpr std::string_view kScores[] = {"softmax", "sigmoid", "sqrt_softplus", "logits"};
constexpr std::string_view kNormalize[] = {"none", "sum", "softmax"};
constexpr std::string_view kGroups[] = {"none", "maximum", "top2_sum"};

template <class E, std::size_t kCount>
std::string_view word(const std::string_view (&words)[kCount], E value) {
  return words[static_cast<std::size_t>(value)];
}

using device::Groups, device::Normalize, device::Score, device::Selection;

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

/// CTAs of the cluster that lists the rows.
int cluster(const Config& c, int tokens) {
  return std::clamp(ceil_div(tokens, c.stage == Stage::both ? kWarps : Config::kRound), 1,
                    Config::kCluster);
}

}  // namespace

std::optional<std::string> gpu_declines(const GpuProblem& p, const cuda::DeviceInfo& device) {
  const Problem& r = p.routing;
  if (device.sm < 90) return fmt::format("route needs sm_90, the device is sm_{}", device.sm);
  if (r.experts > Config::kMaxLists || p.locals + p.shared > Config::kMaxLists)
    return fmt::format("route serves at most {} experts with the shared ones, got {}",
                       Config::kMaxLists, std::max(r.experts, p.locals + p.shared));
  if (r.top_k > 32) return fmt::format("route serves top_k up to 32, got {}", r.top_k);
  if (p.given) return std::nullopt;
  if (r.routing.zero_experts > 0) return "route has no zero experts on a GPU";
  switch (r.routing.method) {
    case RoutingMethod::sparse_mixer:
    case RoutingMethod::adaptive_k:
    case RoutingMethod::load_balanced:
      return fmt::format("route has no rule for {} on a GPU: give expert_ids and expert_weights",
                         name(r.routing.method));
    default:
      break;
  }
  if (r.routing.groups > 32)
    return fmt::format("route serves up to 32 groups, got {}", r.routing.groups);
  return std::nullopt;
}

Selection selection(const Problem& p) {
  const Rule r = rule(p.routing.method);
  const bool grouped = r.groups != Rule::Groups::none && p.routing.groups > 1;
  // The softmax over the chosen is taken of their logits; so is a softmax over all that is then
  // normalized over the chosen.
  const bool normalized = normalize_of(p.routing) == Normalize::sum;
  const bool of_logits = r.weight == Rule::Weight::selected_softmax ||
                         (r.score == Rule::Score::softmax && normalized && !r.biased && !grouped);
  return {.top_k = p.top_k,
          .per_lane = ceil_div(p.experts, 32),
          .score = of_logits ? Score::logits : score_of(r.score),
          .normalize = of_logits ? Normalize::softmax : normalize_of(p.routing),
          .group = !grouped                            ? Groups::none
                   : r.groups == Rule::Groups::maximum ? Groups::maximum
                                                       : Groups::top2_sum,
          .groups = grouped ? p.routing.groups : 1,
          .topk_groups = grouped ? p.routing.topk_groups : 1,
          .group_size = grouped ? p.experts / p.routing.groups : 0};
}

std::vector<Config> gpu_configs(const GpuProblem& p) {
  Config c = {.stage = Stage::both,
              .select = selection(p.routing),
              .unique = !p.given,
              .shared = p.shared,
              .half = p.half};
  if (!p.given && p.routing.tokens <= kMaxOneLaunch) return {c};
  Config group = c;  // of nothing that selection alone needs: fewer kernels
  group.stage = Stage::group;
  group.select = {.top_k = p.routing.top_k,
                  .per_lane = 1,
                  .score = Score::logits,
                  .normalize = Normalize::none,
                  .group = Groups::none,
                  .groups = 1,
                  .topk_groups = 1,
                  .group_size = 0};
  if (p.given) return {group};
  c.stage = Stage::select;
  c.shared = 0, c.half = Half::bf16;
  return {c, group};
}

std::string to_string(const Selection& s) {
  const std::string groups =
      s.groups > 1 ? fmt::format(", {} of {} groups", s.topk_groups, s.groups) : "";
  return fmt::format("top {} by {}{}", s.top_k, word(kScores, s.score), groups);
}

std::string to_string(const Config& c) {
  if (c.stage == Stage::group) return "rows by expert";
  return to_string(c.select) + (c.stage == Stage::both ? ", rows by expert" : "");
}

std::string instance(const Selection& s) {
  return fmt::format(
      "switchyard::device::Selection{{{}, {}, switchyard::device::Score::{}, "
      "switchyard::device::Normalize::{}, switchyard::device::Groups::{}, {}, {}, {}}}",
      s.top_k, s.per_lane, word(kScores, s.score), word(kNormalize, s.normalize),
      word(kGroups, s.group), s.groups, s.topk_groups, s.group_size);
}

jit::Program program(const Config& c, int sm) {
  return {
      .file = "ops/route/kernel.cuh",
      .instance = fmt::format(
          "switchyard::route::kernel<switchyard::route::Config{{switchyard::route::Stage::{}, "
          "{}, {}, {}, switchyard::Half({})}}>",
          word(kStages, c.stage), instance(c.select), c.unique, c.shared, static_cast<int>(c.half)),
      .arch = jit::architecture(sm),
      .options = {}};
}

jit::Launch launch(const Config& c, const GpuProblem& p, jit::Kernel kernel) {
  const int tokens = std::max(p.routing.tokens, 1);
  const bool select = c.stage == Stage::select;
  const auto ctas = static_cast<unsigned>(select ? ceil_div(tokens, kWarps) : cluster(c, tokens));
  const int scratch =
      c.stage == Stage::group ? 0 : kWarps * 4 * select_scratch(c.select, p.routing.experts);
  return {.kernel = std::move(kernel),
          .grid = {ctas},
          .block = {Config::kThreads},
          .cluster = {select ? 1U : ctas},
          .smem_bytes = scratch,
          .overlap_previous = c.stage == Stage::group && !p.given};
}

ListSizes list_sizes(const GpuProblem& p) noexcept {
  const int tokens = p.routing.tokens, pairs = tokens * p.routing.top_k;
  const int lists = std::min(p.locals, pairs);  // that have rows
  return {.blocks = ceil_div(pairs, p.block) + lists + p.shared * ceil_div(tokens, p.block),
          .rows = round_up(pairs + p.shared * tokens + (lists + p.shared) * (device::kRowAlign - 1),
                           device::kRowAlign)};
}

}  // namespace switchyard::route
