#pragma once

#include <optional>
#include <string>

#include "cuda/context.h"
#include "jit/kernel.h"
#include "ops/route/problem.h"
#include "ops/route/shared.cuh"

/// Routing of a small batch on a GPU: experts, weights and the blocks of rows that fused_moe walks.
namespace switchyard::route {

/// Why the kernel cannot serve `problem` on `device`; empty when it can.
std::optional<std::string> small_batch_declines(const Problem& problem,
                                                const cuda::DeviceInfo& device);

/// `block`: rows of a block at most. Only for problems that are not declined.
Config small_batch_config(const Problem& problem, int block);

jit::Program program(const Config& config, int sm);
jit::Launch launch(const Config& config, jit::Kernel kernel);

}  // namespace switchyard::route
