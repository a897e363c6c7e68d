#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cuda/context.h"
#include "jit/kernel.h"
#include "ops/route/problem.h"
#include "ops/route/shared.cuh"

/// Routing on a GPU: experts and weights of every token, and the lists that the GEMMs walk.
namespace switchyard::route {

/// What a launch serves beside the routing itself.
struct GpuProblem {
  Problem routing;
  bool given = false;      ///< ids and weights come from the caller
  int locals = 0;          ///< experts of this rank
  int shared = 0;          ///< shared experts, each with every token
  Half half = Half::bf16;  ///< of the tokens
  int block = 0;           ///< rows of a block at most
};

/// Why there is no kernel for `problem` on `device`; empty when there is.
std::optional<std::string> gpu_declines(const GpuProblem& problem, const cuda::DeviceInfo& device);

/// How a kernel chooses the experts of a problem that is not declined.
device::Selection selection(const Problem& problem);

/// The launches in order: one up to 1024 tokens, else two. Only for problems that are not declined.
std::vector<Config> gpu_configs(const GpuProblem& problem);

std::string to_string(const Config& config);
jit::Program program(const Config& config, int sm);
jit::Launch launch(const Config& config, const GpuProblem& problem, jit::Kernel kernel);

/// Entries of the lists that a batch may need.
struct ListSizes {
  int blocks = 0, rows = 0;  ///< rows is a multiple of 8
};
ListSizes list_sizes(const GpuProblem& problem) noexcept;

}  // namespace switchyard::route
