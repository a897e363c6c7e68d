#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "switchyard/moe.h"

/// THE DEFINITION of the layer. Every backend is tested against this.
namespace switchyard::moe {

/// `exact`: f64, except for the quantisation that ActivationFormat asks for. `honest`: the same
/// formula with the rounding points of a kernel (router weights, GEMM inputs, experts'
/// outputs, latent values; the output's is compare()'s), which says how much of a difference
/// rounding explains.
enum class Rounding { exact, honest };

struct Routed {
  std::vector<std::int32_t> ids;  ///< [T, K]  global ids; -1 = the slot is left out
  std::vector<double> weights;    ///< [T, K]
  MoeCounters counters;
};

/// Given ids and weights, or routing of given logits, or of tokens x router^T + router_bias.
Routed reference_route(const MoeConfig& config, const MoeWeights& weights, const MoeBuffers& inputs,
                       Rounding rounding);

/// The layer's output [tokens.size(), H] for some tokens of the batch. No token's output depends
/// on another token.
std::vector<double> reference_experts(const MoeConfig& config, const MoeWeights& weights,
                                      const MoeBuffers& inputs, const Routed& routed,
                                      Rounding rounding, std::span<const std::int64_t> tokens);

/// Both for the whole batch. `inputs` must fit the config and weights: nothing is checked here.
struct Reference {
  Routed routed;
  std::vector<double> out;  ///< [T, H]
};
Reference reference(const MoeConfig& config, const MoeWeights& weights, const MoeBuffers& inputs,
                    Rounding rounding);

}  // namespace switchyard::moe
