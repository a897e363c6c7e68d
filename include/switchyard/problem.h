#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "switchyard/moe.h"

namespace switchyard {

/// One case, as tests, logs, the tuner's key, benchmarks and the command line spell it:
///
///   moe t128 h7168 i256 e256 k8 nvfp4 swiglu deepseek_v3 groups=8 topk_groups=4 act=bf16
///
/// Order is free except for the first word; options default as in MoeConfig. Weights are random.
struct MoeProblem {
  int tokens = 1;
  MoeConfig config;
  WeightFormat format;
  bool bias = false;
  std::string load = "random";  ///< routing_load=random | balanced | zipf | hot
  int tp_rank = 0, tp_ranks = 1, ep_rank = 0, ep_ranks = 1;

  friend bool operator==(const MoeProblem&, const MoeProblem&) = default;
};

/// Throws InvalidArgument, naming the word, the rule and the nearest valid spelling.
MoeProblem parse_problem(std::string_view line);

/// parse_problem(to_string(p)) == p; options at their default are left out.
std::string to_string(const MoeProblem& problem);

/// The problem line of a preset ("qwen3-30b-a3b") at `tokens`; throws InvalidArgument listing them.
MoeProblem preset(std::string_view name, int tokens);
std::vector<std::string> preset_names();

/// A random layer and batch for `problem`; the same seed gives the same bits everywhere.
struct MoeCase {
  MoeConfig config;
  MoeWeights weights;
  Tensor tokens;         ///< [T, H]  bf16
  Tensor router_logits;  ///< [T, E (+ zero experts)]  f32
  Tensor input_ids;      ///< [T]  i32, hash routing only
};
MoeCase make_case(const MoeProblem& problem, std::uint64_t seed);

/// How far the layer's output is from the f64 definition, in units of an honest run's own error
/// (style.md (10)): at most 2 passes.
struct CheckReport {
  std::string problem;
  std::uint64_t seed = 0;
  double error_ratio = 0;  ///< worst element of the worst token
  double max_abs_error = 0;
  double zeros = 0;  ///< share of exact zeros in the reference
  bool finite_match = false;
  bool repeatable = false;     ///< two runs gave the same bits
  bool routing_exact = false;  ///< the same experts as the definition
  bool passed = false;
};
CheckReport check(const MoeProblem& problem, std::uint64_t seed, Device device = Device::cpu());

/// The same comparison for a layer and inputs of the caller's (`switchyard run --check`).
CheckReport check(const MoeConfig& config, const MoeWeights& weights, const MoeBuffers& inputs,
                  Device device = Device::cpu());

}  // namespace switchyard
