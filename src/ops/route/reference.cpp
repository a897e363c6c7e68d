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
#include <numeric>

#include "ops/route/problem.h"

namespace switchyard::route {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// exp(z - max), 0 for NaN; an infinite maximum shares the weight among its own.
std::vector<double> exponentials(const std::vector<double>& z) {
  double max = -kInfinity;
  for (const double x : z) max = std::fmax(max, x);
  std::vector<double> e;
  for (const double x : z) e.push_back(std::isnan(x) ? 0 : x == max ? 1 : std::exp(x - max));
  return e;
}

std::vector<double> softmax(const std::vector<double>& z) {
  std::vector<double> p = exponentials(z);
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x = sum > 0 ? x / sum : 0;
  return p;
}

std::vector<double> scores(Rule::Score score, const std::vector<double>& z) {
  if (score == Rule::Score::softmax) return softmax(z);
  std::vector<double> p = z;
  for (double& x : p) {
    if (score == Rule::Score::sigmoid) x = 1 / (1 + std::exp(-x));
    if (score == Rule::Score::sqrt_softplus)
      x = std::sqrt(std::fmax(x, 0.0) + std::log1p(std::exp(-std::abs(x))));
  }
  return p;
}

/// Sets q to NaN, which is never chosen, outside of the best groups.
void keep_groups(const Routing& routing, Rule::Groups by, std::vector<double>& q) {
  const std::size_t size = q.size() / static_cast<std::size_t>(routing.groups);
  std::vector<double> group_score;
  for (std::size_t g = 0; g < static_cast<std::size_t>(routing.groups); ++g) {
    std::vector<double> own(q.begin() + static_cast<std::ptrdiff_t>(g * size),
                            q.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
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
std::vector<int> largest(const std::vector<double>& q, int k) {
  std::vector<int> chosen;
  std::vector<bool> taken(q.size());
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
  std::vector<int> ids;
  std::vector<double> weights;
};

/// Phi-3.5-MoE: each pick's weight is its share among the experts within 2 epsilon of it.
Slots sparse_mixer(std::vector<double> z, int k) {
  const std::vector<double> original = z;
  Slots slots;
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
void adapt(const std::vector<double>& p, Slots& slots) {
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

void weigh(const Routing& routing, const std::vector<double>& z, const std::vector<double>& p,
           Slots& slots) {
  Rule::Weight weight = rule(routing.method).weight;
  if (weight == Rule::Weight::if_renormalize)
    weight = routing.renormalize ? Rule::Weight::normalized : Rule::Weight::score;
  std::vector<double> chosen_logits;
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
std::vector<int> from_table(const Inputs& inputs, std::size_t token, int k,
                            const std::vector<double>& z, MoeCounters& counters) {
  std::vector<int> ids;
  for (int slot = 0; slot < k; ++slot) {
    const std::int64_t row = inputs.input_ids[token] * k;
    const int id = inputs.hash_table[static_cast<std::size_t>(row + slot)];
    const bool known = id >= 0 && static_cast<std::size_t>(id) < z.size();
    if (!known && id != -1) ++counters.bad_expert_ids;
    ids.push_back(known && !std::isnan(z[static_cast<std::size_t>(id)]) ? id : -1);
  }
  return ids;
}

std::vector<int> ranked(const Problem& problem, const Inputs& inputs, const std::vector<double>& z,
                        const std::vector<double>& p) {
  const Rule how = rule(problem.routing.method);
  std::vector<double> q = z;
  if (how.biased)
    for (std::size_t e = 0; e < q.size(); ++e)
      q[e] = p[e] + (inputs.correction_bias.empty() ? 0 : inputs.correction_bias[e]);
  for (std::size_t e = 0; e < q.size(); ++e)
    if (std::isnan(z[e])) q[e] = kNaN;
  if (problem.routing.groups > 1) keep_groups(problem.routing, how.groups, q);
  return largest(q, problem.top_k);
}

Slots balanced(std::int64_t token, int k, int width) {
  Slots slots;
  for (int slot = 0; slot < k; ++slot)
    slots.ids.push_back(static_cast<int>((token * k + slot) % width));
  slots.weights.assign(slots.ids.size(), 1.0);
  return slots;
}

Slots route_token(const Problem& problem, const Inputs& inputs, std::size_t token,
                  MoeCounters& counters) {
  const Routing& routing = problem.routing;
  const auto width = static_cast<std::size_t>(problem.scores());
  if (routing.method == RoutingMethod::load_balanced)
    return balanced(inputs.first_token + static_cast<std::int64_t>(token), problem.top_k,
                    problem.scores());

  const double* row = inputs.logits.data() + token * width;
  const std::vector<double> z(row, row + width);
  Slots slots;
  if (routing.method == RoutingMethod::sparse_mixer) {
    slots = sparse_mixer(z, problem.top_k);
  } else {
    const std::vector<double> p = scores(rule(routing.method).score, z);
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

Chosen reference(const Problem& problem, const Inputs& inputs) {
  Chosen chosen;
  if (problem.routing.method != RoutingMethod::load_balanced)
    for (const double z : inputs.logits) chosen.counters.non_finite_logits += std::isnan(z) ? 1 : 0;
  for (int token = 0; token < problem.tokens; ++token) {
    const Slots slots =
        route_token(problem, inputs, static_cast<std::size_t>(token), chosen.counters);
    chosen.ids.insert(chosen.ids.end(), slots.ids.begin(), slots.ids.end());
    chosen.weights.insert(chosen.weights.end(), slots.weights.begin(), slots.weights.end());
  }
  return chosen;
}

}  // namespace switchyard::route
