#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cuda/context.h"
#include "jit/compiler.h"
#include "moe/gpu_plan.h"
#include "switchyard/problem.h"

namespace switchyard::moe {

/// Why GPUs of that architecture (90) do not serve `problem`; empty if they do.
std::optional<std::string> gpu_declines(const MoeProblem& problem, int sm);

/// A rank's layer of `problem`. Throws Unsupported, with the reason, if no GPU kernel serves it.
GpuShape gpu_shape(const MoeProblem& problem);

/// A plan of `problem`'s layer for `device`, with what was measured on such a device. Asks no
/// device. Throws Unsupported with the sentence of gpu_declines().
GpuPlan plan_problem(const MoeProblem& problem, const cuda::DeviceInfo& device);

/// An H200 as its driver describes it, for machines that have none.
cuda::DeviceInfo h200();

/// Every kernel that a layer of `problem`, planned for at most problem.tokens, launches on such a
/// GPU, whether or not variants were measured on it, and those that bring its weights there; in a
/// fixed order. Asks no device. Throws Unsupported with the sentence of gpu_declines().
std::vector<jit::Program> gpu_programs(const MoeProblem& problem, int sm);

}  // namespace switchyard::moe
