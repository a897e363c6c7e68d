#pragma once

#include <memory_resource>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/words.h"
#include "switchyard/config.h"
#include "switchyard/ops.h"

namespace switchyard::route {

/// "route t128 e256 k8 deepseek_v3 groups=8 topk_groups=4 scaling=2.5"
struct Problem {
  int tokens = 0;
  int experts = 0;  ///< E, without zero experts
  int top_k = 0;
  Routing routing;

  int scores() const noexcept { return experts + routing.zero_experts; }
  friend bool operator==(const Problem&, const Problem&) = default;
};

std::string to_string(const Problem& problem);
/// parse(to_string(p)) == p
Problem parse(std::string_view line);
/// Throws InvalidArgument if the numbers do not fit together (top_k > E, groups that do not
/// divide).
void check(const Problem& problem, std::string_view where);

/// What a routing method does, as data. sparse_mixer, adaptive_k, hash and load_balanced add code.
struct Rule {
  enum class Score { logit, softmax, sigmoid, sqrt_softplus } score = Score::softmax;
  /// Ranked by score + correction bias; else by the logit, with which every score grows, and
  /// which has no ties where a score saturates.
  bool biased = false;
  enum class Groups { none, maximum, top2_sum } groups = Groups::none;
  enum class Weight {
    score,             ///< p
    normalized,        ///< p / (sum of the K + 1e-20)
    if_renormalize,    ///< one or the other, by Routing::renormalize
    selected_softmax,  ///< softmax over the K logits, which is p / sum p without underflow
  } weight = Weight::score;
};
Rule rule(RoutingMethod method) noexcept;

/// Added to the sum that weights are divided by (spec 8.2).
inline constexpr double kSumEpsilon = 1e-20;
/// Phi-3.5-MoE's router_jitter_noise.
inline constexpr double kSparseMixerEpsilon = 0.01;
/// adaptive_k: K is kAdaptiveMinimum below the first entropy, half-way below the second.
inline constexpr int kAdaptiveMinimum = 2;
inline constexpr double kAdaptiveEntropy[2] = {1.3, 1.7};

/// The arrays of ops::RouteArgs; those that a method does not read may be empty.
struct Inputs {
  std::span<const double> logits = {};            ///< [T, scores]
  std::span<const float> correction_bias = {};    ///< [scores]
  std::span<const std::int64_t> input_ids = {};   ///< [T]
  std::span<const std::int32_t> hash_table = {};  ///< [vocabulary, K]
  std::int64_t first_token = 0;                   ///< of the batch: load_balanced counts from there
};

struct Chosen {
  std::vector<std::int32_t> ids;  ///< [T, K], -1 = the slot is left out
  std::vector<double> weights;    ///< [T, K]
  MoeCounters counters;
};

/// The definition, f64. An expert whose logit (or biased score) is NaN is never chosen; slots for
/// which no expert is left get id -1 and weight 0.
Chosen reference(const Problem& problem, const Inputs& inputs);

/// The same for token `token` of `inputs` alone, ids and weights [K], with every temporary from
/// `memory`: at most scratch_bytes().
MoeCounters reference_token(const Problem& problem, const Inputs& inputs, std::int64_t token,
                            std::span<std::int32_t> ids, std::span<double> weights,
                            std::pmr::memory_resource& memory);
std::int64_t scratch_bytes(const Problem& problem) noexcept;

}  // namespace switchyard::route
