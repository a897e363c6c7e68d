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

struct Problem {
  int tokens = 0;  ///< at most
  int hidden = 0, intermediate = 0;
  int lists = 0;          ///< local experts and shared ones
  int slots_a_token = 0;  ///< top_k and shared ones
  Half half = Half::bf16;
  Weights weights = Weights::half;
  device::ActivationCode activation = device::ActivationCode::swiglu;
  bool bias = false, weight_on_input = false;
  int shared = 0;                           ///< of the lists, at their end
  std::optional<device::Selection> select;  ///< if the kernel may choose experts itself
  friend bool operator==(const Problem&, const Problem&) = default;
};

/// Why the kernel cannot serve `problem` on `device`; empty when it can.
std::optional<std::string> declines(const Problem& problem, const cuda::DeviceInfo& device);

/// Configs that fit, best guess first. Pure.
std::vector<Config> candidates(const Problem& problem, const cuda::DeviceInfo& device);

/// How long a problem takes, as bytes that memory delivers meanwhile: the candidates' order.
double expected_cost(const Problem& problem, const Config& config);

/// "fused tokens 8 block 8 stages 6 routing"
std::string to_string(const Config& config);
jit::Program program(const Config& config, int sm);
jit::Launch launch(const Config& config, jit::Kernel kernel, const cuda::DeviceInfo& device);

/// Bytes of Args::act for `rows` rows and of Args::partial, and words of Args::marks.
struct Scratch {
  std::int64_t act, partial;
  int marks;
};
Scratch scratch(const Problem& problem, const Config& config, int rows,
                const cuda::DeviceInfo& device);

}  // namespace switchyard::fused_moe
