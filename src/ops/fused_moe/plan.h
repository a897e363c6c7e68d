#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cuda/context.h"
#include "jit/kernel.h"
#include "ops/fused_moe/shared.cuh"

/// FC1, activation, FC2 and the sum over experts of a small batch in one launch.
namespace switchyard::fused_moe {

/// "fused_moe t8 h7168 i256 e256 k8 bf16 swiglu bias": BF16 weights and tokens.
struct Problem {
  int tokens = 0;  ///< at most
  int hidden = 0, intermediate = 0, experts = 0, top_k = 0;
  Activation activation = Activation::swiglu;
  bool bias = false;
  friend bool operator==(const Problem&, const Problem&) = default;
};
std::string to_string(const Problem& problem);

/// Tiles of 128 rows x 64 columns that the weights are repacked to (ops/repack).
struct Tiles {
  int row_tiles1, k_tiles1, row_tiles2, k_tiles2;
  std::int64_t gate_up_bytes, down_bytes;  ///< of one expert
};
Tiles tiles(const Problem& problem);

/// Why the kernel cannot serve `problem` on `device`; empty when it can.
std::optional<std::string> sm90_declines(const Problem& problem, const cuda::DeviceInfo& device);

/// Configs that fit, best guess first. Pure.
std::vector<Config> candidates(const Problem& problem, const cuda::DeviceInfo& device);

/// "sm90 bf16 tokens 8 block 8 stages 6"
std::string to_string(const Config& config);

jit::Program program(const Config& config, int sm);

/// The launch that candidates' `config` needs; `kernel` is program(config)'s.
jit::Launch launch(const Config& config, jit::Kernel kernel, const cuda::DeviceInfo& device);

/// Bytes of Args::act, Args::partial, and of Args::flag with Args::arrived behind it.
struct Scratch {
  std::int64_t act, partial, flags;
};
Scratch scratch(const Problem& problem, const Config& config, const cuda::DeviceInfo& device);

}  // namespace switchyard::fused_moe
