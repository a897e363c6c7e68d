#pragma once

#include <optional>
#include <string>
#include <vector>

#include "moe/gpu_layer.h"
#include "ops/dense_moe/gpu.h"
#include "ops/fused_moe/plan.h"
#include "ops/grouped_gemm/plan.h"
#include "ops/route/plan.h"

/// The ways in which a GPU can run a layer's batch.
namespace switchyard::moe {

/// The dense GEMMs of a layer.
struct DenseTactics {
  dense_moe::Tactic fc1, fc2;
  bool active;  ///< over the experts that have tokens alone
};

/// How the experts of a batch run.
struct GpuExperts {
  std::optional<fused_moe::Config> fused;
  std::optional<grouped_gemm::GpuConfigs> grouped;
  std::optional<DenseTactics> dense;

  /// The sum over a token's experts is a launch of its own.
  bool finalizes() const noexcept { return grouped && grouped->fc2.sum == grouped_gemm::Sum::none; }
  int block() const noexcept {
    return fused ? fused->block : grouped ? grouped->fc1.group() : kDenseBlock;
  }
  static constexpr int kDenseBlock = 16;  ///< of lists that nobody reads
};
std::string to_string(const GpuExperts& experts);

/// What was chosen freely, without what follows from the batch: two candidates of one batch never
/// have the same, and batches have candidates of the same. Picks are stored so.
std::string tactic(const GpuExperts& experts);

/// Every way that can run `tokens` tokens, best first by the cost model; reasons of those that
/// cannot are added to `declined`.
std::vector<GpuExperts> gpu_candidates(const GpuShape& shape, int tokens,
                                       const cuda::DeviceInfo& device,
                                       std::vector<std::string>& declined);

/// How long a candidate should take, as bytes that memory delivers meanwhile. Not of dense ones.
double expected_cost(const GpuShape& shape, int tokens, const cuda::DeviceInfo& device,
                     const GpuExperts& experts);

/// What the operations are asked for.
route::GpuProblem route_problem(const GpuShape& shape, int tokens, int block);
fused_moe::Problem fused_problem(const GpuShape& shape, int tokens, const cuda::DeviceInfo& device);
grouped_gemm::GpuProblem grouped_problem(const GpuShape& shape, int tokens);
dense_moe::GpuProblem dense_problem(const GpuShape& shape, int tokens, dense_moe::Phase phase);

/// Experts that `tokens` tokens reach if each of them is as likely.
double reached(const GpuShape& shape, int tokens);

}  // namespace switchyard::moe
