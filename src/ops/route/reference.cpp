// Routing: logits z [E] of a token -> K experts, ordered as ranked, and their weights.
//
//   p = score(z)                      softmax over all E, sigmoid, sqrt(softplus), or z itself
//   q = p + bias, or z                what is ranked (Rule::biased); ties to the lower index; NaN
//                                     is never chosen
//   groups                            score of a group: its maximum q, or the sum of its two
//                                     largest; q = -inf outside of the best topk_groups groups
//   weight = scaling * (p | p / (sum over the K of p + 1e-20) | softmax over the K)
//
// load_balanced keeps weight 1 and adaptive_k sums with 1e-9.

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory_resource>
#include <numeric>

#include "ops/route/problem.h"

namespace switchyard::route {
namespace {

using Memory = std::pmr::memory_resource;
using Doubles = std::pmr::vector<double>;
using Ids = std::pmr::vector<int>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// exp(z - max), 0 for NaN; an infinite maximum shares the weight among its own.
Doubles exponentials(const Doubles& z) {
  double max = -kInfinity;
  for (const double x : z) max = std::fmax(max, x);
  Doubles e(z.get_allocator());
  e.reserve(z.size());
  for (const double x : z) e.push_back(std::isnan(x) ? 0 : x == max ? 1 : std::exp(x - max));
  return e;
}

Doubles softmax(const Doubles& z) {
  Doubles p = exponentials(z);
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x = sum > 0 ? x / sum : 0;
  return p;
}

Doubles scores(Rule::Score score, const Doubles& z) {
  if (score == Rule::Score::softmax) return softmax(z);
  Doubles p(z, z.get_allocator());
  for (double& x : p) {
    if (score == Rule::Score::sigmoid) x = 1 / (1 + std::exp(-x));
    if (score == Rule::Score::sqrt_softplus)
      x = std::sqrt(std::fmax(x, 0.0) + std::log1p(std::exp(-std::abs(x))));
  }
  return p;
}

/// Sets q to NaN, which is never chosen, outside of the best groups.
void keep_groups(const Routing& routing, Rule::Groups by, Doubles& q) {
  const std::size_t size = q.size() / static_cast<std::size_t>(routing.groups);
  Doubles group_score(q.get_allocator());
  group_score.reserve(static_cast<std::size_t>(routing.groups));
  for (std::size_t g = 0; g < static_cast<std::size_t>(routing.groups); ++g) {
    Doubles own(q.begin() + static_cast<std::ptrdiff_t>(g * size),
                q.begin() + static_cast<std::ptrdiff_t>((g + 1) * size), q.get_allocator());
    for (double& x : own)
      if (std::isnan(x)) x = -kInfinity;
    std::sort(own.begin(), own.end(), std::greater<>());
    const bool two = by == Rule::Groups::top2_sum && own.size() > 1;
    group_score.push_back(own[0] + (two ? own[1] : 0));
  }
  for (std::size_t g = 0; g < group_score.size(); ++g) {
    int better = 0;
    for (std::size_t o = 0; o < group_score.size(); ++o)
      if (group_score[o] > group_score[g] || (group_score[o] == group_score[g] && o < g)) ++better;
    if (better < routing.topk_groups) continue;
    for (std::size_t e = g * size; e < (g + 1) * size; ++e) q[e] = kNaN;
  }
}

/// The K largest q, best first; -1 where only NaN is left.
Ids largest(const Doubles& q, int k) {
  Ids chosen(q.get_allocator());
  chosen.reserve(static_cast<std::size_t>(k));
  std::pmr::vector<bool> taken(q.size(), false, q.get_allocator());
  for (int slot = 0; slot < k; ++slot) {
    int best = -1;
    for (std::size_t e = 0; e < q.size(); ++e) {
      if (taken[e] || std::isnan(q[e])) continue;
      if (best < 0 || q[e] > q[static_cast<std::size_t>(best)]) best = static_cast<int>(e);
    }
    if (best >= 0) taken[static_cast<std::size_t>(best)] = true;
    chosen.push_back(best);
  }
  return chosen;
}

struct Slots {
  Ids ids;
  Doubles weights;

  Slots(int k, Memory* memory) : ids(memory), weights(memory) {
    ids.reserve(static_cast<std::size_t>(k));
    weights.reserve(static_cast<std::size_t>(k));
  }
};

/// Phi-3.5-MoE: each pick's weight is its share among the experts within 2 epsilon of it.
Slots sparse_mixer(const Doubles& original, int k, Memory* memory) {
  Doubles z(original, memory);
  Slots slots(k, memory);
  for (int slot = 0; slot < k; ++slot) {
    const int best = largest(z, 1)[0];
    slots.ids.push_back(best);
    slots.weights.push_back(0);
    if (best < 0) continue;
    const double max = z[static_cast<std::size_t>(best)];
    double sum = 0;
    for (std::size_t e = 0; e < z.size(); ++e) {
      if (std::isnan(z[e])) continue;
      const double distance = (max - original[e]) / std::fmax(std::abs(original[e]), max);
      if (!(distance > 2 * kSparseMixerEpsilon)) sum += z[e] == max ? 1 : std::exp(z[e] - max);
    }
    slots.weights.back() = 1 / sum;
    z[static_cast<std::size_t>(best)] = kNaN;
  }
  return slots;
}

/// Fewer experts for tokens whose router is sure: the entropy of p decides how many.
void adapt(const Doubles& p, Slots& slots) {
  const int k = static_cast<int>(slots.ids.size());
  double entropy = 0;
  for (const double x : p) entropy -= x * std::log(x + 1e-9);
  const int least = std::min(kAdaptiveMinimum, k);
  const int used = entropy < kAdaptiveEntropy[0]   ? least
                   : entropy < kAdaptiveEntropy[1] ? (least + k) / 2
                                                   : k;
  double sum = 0;
  for (int slot = 0; slot < k; ++slot) {
    const auto s = static_cast<std::size_t>(slot);
    if (slot >= used) {
      slots.ids[s] = -1;
      slots.weights[s] = 0;
    }
    sum += slots.weights[s];
  }
  for (double& weight : slots.weights) weight /= sum + 1e-9;
}

void weigh(const Routing& routing, const Doubles& z, const Doubles& p, Slots& slots) {
  Rule::Weight weight = rule(routing.method).weight;
  if (weight == Rule::Weight::if_renormalize)
    weight = routing.renormalize ? Rule::Weight::normalized : Rule::Weight::score;
  Doubles chosen_logits(z.get_allocator());
  chosen_logits.reserve(slots.ids.size());
  double sum = kSumEpsilon;
  for (const int id : slots.ids) {
    const auto e = static_cast<std::size_t>(id);
    chosen_logits.push_back(id < 0 ? kNaN : z[e]);
    slots.weights.push_back(id < 0 ? 0 : p[e]);
    sum += slots.weights.back();
  }
  if (weight == Rule::Weight::selected_softmax) slots.weights = softmax(chosen_logits);
  if (weight == Rule::Weight::normalized)
    for (double& w : slots.weights) w /= sum;
}

/// The experts that the checkpoint's table has for this input id.
Ids from_table(const Inputs& inputs, std::size_t token, int k, const Doubles& z,
               MoeCounters& counters) {
  Ids ids(z.get_allocator());
  ids.reserve(static_cast<std::size_t>(k));
  for (int slot = 0; slot < k; ++slot) {
    const std::int64_t row = inputs.input_ids[token] * k;
    const int id = inputs.hash_table[static_cast<std::size_t>(row + slot)];
    const bool known = id >= 0 && static_cast<std::size_t>(id) < z.size();
    if (!known && id != -1) ++counters.bad_expert_ids;
    ids.push_back(known && !std::isnan(z[static_cast<std::size_t>(id)]) ? id : -1);
  }
  return ids;
}

Ids ranked(const Problem& problem, const Inputs& inputs, const Doubles& z, const Doubles& p) {
  const Rule how = rule(problem.routing.method);
  Doubles q(z, z.get_allocator());
  if (how.biased)
    for (std::size_t e = 0; e < q.size(); ++e)
      q[e] = p[e] + (inputs.correction_bias.empty() ? 0 : inputs.correction_bias[e]);
  for (std::size_t e = 0; e < q.size(); ++e)
    if (std::isnan(z[e])) q[e] = kNaN;
  if (problem.routing.groups > 1) keep_groups(problem.routing, how.groups, q);
  return largest(q, problem.top_k);
}

Slots balanced(std::int64_t token, int k, int width, Memory* memory) {
  Slots slots(k, memory);
  for (int slot = 0; slot < k; ++slot)
    slots.ids.push_back(static_cast<int>((token * k + slot) % width));
  slots.weights.assign(slots.ids.size(), 1.0);
  return slots;
}

Slots route_token(const Problem& problem, const Inputs& inputs, std::size_t token, Memory* memory,
                  MoeCounters& counters) {
  const Routing& routing = problem.routing;
  const auto width = static_cast<std::size_t>(problem.scores());
  if (routing.method == RoutingMethod::load_balanced)
    return balanced(inputs.first_token + static_cast<std::int64_t>(token), problem.top_k,
                    problem.scores(), memory);

  const double* row = inputs.logits.data() + token * width;
  const Doubles z(row, row + width, memory);
  Slots slots(problem.top_k, memory);
  if (routing.method == RoutingMethod::sparse_mixer) {
    slots = sparse_mixer(z, problem.top_k, memory);
  } else {
    const Doubles p = scores(rule(routing.method).score, z);
    slots.ids = routing.method == RoutingMethod::hash
                    ? from_table(inputs, token, problem.top_k, z, counters)
                    : ranked(problem, inputs, z, p);
    weigh(routing, z, p, slots);
    if (routing.method == RoutingMethod::adaptive_k) adapt(p, slots);
  }
  for (double& weight : slots.weights) weight *= routing.scaling;
  return slots;
}

}  // namespace

MoeCounters reference_token(const Problem& problem, const Inputs& inputs, std::int64_t token,
                            std::span<std::int32_t> ids, std::span<double> weights,
                            std::pmr::memory_resource& memory) {
  MoeCounters counters;
  const auto at = static_cast<std::size_t>(token);
  if (problem.routing.method != RoutingMethod::load_balanced) {
    const auto width = static_cast<std::size_t>(problem.scores());
    for (const double z : inputs.logits.subspan(at * width, width))
      counters.non_finite_logits += std::isnan(z) ? 1 : 0;
  }
  const Slots slots = route_token(problem, inputs, at, &memory, counters);
  std::copy(slots.ids.begin(), slots.ids.end(), ids.begin());
  std::copy(slots.weights.begin(), slots.weights.end(), weights.begin());
  return counters;
}

std::int64_t scratch_bytes(const Problem& problem) noexcept {
  // z, p, q, a group's copy and the largest two softmaxes; marks of every pick of sparse_mixer.
  const std::int64_t width = problem.scores(), k = problem.top_k;
  return 1024 + 8 * (6 * (width + 8) + 10 * k + problem.routing.groups) +
         (k + 1) * (width / 8 + 32);
}

Chosen reference(const Problem& problem, const Inputs& inputs) {
  Chosen chosen;
  const auto k = static_cast<std::size_t>(problem.top_k);
  const std::size_t slots = static_cast<std::size_t>(problem.tokens) * k;
  chosen.ids.resize(slots);
  chosen.weights.resize(slots);
  for (int token = 0; token < problem.tokens; ++token) {
    const std::size_t first = static_cast<std::size_t>(token) * k;
    const MoeCounters counters = reference_token(
        problem, inputs, token, std::span(chosen.ids).subspan(first, k),
        std::span(chosen.weights).subspan(first, k), *std::pmr::get_default_resource());
    chosen.counters.non_finite_logits += counters.non_finite_logits;
    chosen.counters.bad_expert_ids += counters.bad_expert_ids;
  }
  return chosen;
}

}  // namespace switchyard::route
