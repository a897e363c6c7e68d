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
/// Order is free except for the first word; options default as in MoeConfig (bf16 weights):
///
///   groups= topk_groups= scaling= no_renormalize zero_experts=  alpha= beta= limit= linear_beta=
///   act= on_input= fused_alpha dense bias shared=IS shared_gate latent=L norm_epsilon=
///   routing_load= tp=RANK/RANKS ep=RANK/RANKS
///
/// The line describes the whole layer; tp and ep pick the part of it that a case holds, and the
/// parts' outputs sum to the layer's. expert_map is not part of a line: ep makes it.
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

/// A random layer and batch for `problem`; the same seed gives the same bits everywhere. fp8_tensor
/// and nvfp4 activations get static scales; a latent layer gets its norm unless it is split by tp
/// or ep. Throws InvalidArgument if the numbers do not fit (an `i` that tp cannot split, ...).
struct MoeCase {
  MoeConfig config;  ///< of this part
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

/// A random case of `problem` on `device`, compared with the definition.
/// All tokens run, and all are routed by the definition; of their outputs, as many are compared as
/// fit in about 2 * 10^8 multiplications (at least one: the first, the last and some between).
CheckReport check(const MoeProblem& problem, std::uint64_t seed, Device device = Device::cpu());

/// The same comparison for a layer and inputs of the caller's (`switchyard run --check`).
CheckReport check(const MoeConfig& config, const MoeWeights& weights, const MoeBuffers& inputs,
                  Device device = Device::cpu());

}  // namespace switchyard
