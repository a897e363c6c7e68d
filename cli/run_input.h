#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "switchyard/moe.h"

namespace switchyard::cli {

/// The arrays that one call reads; absent ones are left to the layer.
struct RunInput {
  Tensor tokens;                     ///< [T, H]
  Tensor router_logits;              ///< [T, E]
  Tensor expert_ids;                 ///< [T, K]
  Tensor expert_weights;             ///< [T, K]
  Tensor input_ids;                  ///< [T]
  std::vector<std::string> ignored;  ///< tensors of the file that have none of these names

  int count() const { return static_cast<int>(tokens.shape()[0]); }
};

/// Throws InvalidArgument if the file is damaged or has no `tokens` [T, H].
RunInput read_input(const std::filesystem::path& file, const MoeConfig& config);

/// Tokens of about unit variance in bf16, and input ids for a layer that routes by them.
RunInput random_input(const MoeConfig& config, const MoeWeights& weights, int tokens,
                      std::uint64_t seed);

}  // namespace switchyard::cli
