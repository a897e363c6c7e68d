#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "moe/gpu_candidates.h"
#include "moe/gpu_layer.h"
#include "moe/workspace.h"
#include "ops/finalize/plan.h"

namespace switchyard::moe {

/// A plan's launches.
struct GpuPlan {
  GpuExperts experts;
  struct Route {
    route::GpuProblem problem;
    std::vector<route::Config> configs;
    std::vector<jit::Launch> launches;  ///< empty until loaded
  };
  Route logits_route, given_route;  ///< no launches if the experts' kernel routes
  std::vector<jit::Launch> launches;
  fused_moe::Problem fused_problem;
  grouped_gemm::GpuProblem grouped_problem;
  finalize::Config finalize_config = {};
  dense_moe::GpuProblem dense_fc1, dense_fc2;
  std::vector<dense_moe::GpuGemm> gemms;  ///< of the two; empty until loaded
  Slice alpha, post, listed, codes, code_scales, scratch;
  Slice ids, weights, block_count, blocks, row_token, row_weight, slot_row, act, partial, row_scale,
      unit, sums, rows, flags, marks;
  int flag_count = 0, bounds_at = 0, row_capacity = 0, spans = 0, width = 0, slots = 0;
  std::size_t workspace_bytes = 0;
  std::vector<Step> steps;
  std::vector<std::string> declined;
};

/// Pure: no GPU, no compiler. The first candidate unless `experts` says which.
GpuPlan make_gpu_plan(const GpuShape& shape, int tokens, const cuda::DeviceInfo& device,
                      const std::optional<GpuExperts>& experts = std::nullopt);

/// The kernels of a plan, in the order that load() takes them.
std::vector<jit::Program> programs(const GpuPlan& plan, int sm);

/// Compiles and loads what the plan needs.
void load(GpuPlan& plan, const GpuLayer& layer);

/// Enqueues a checked call; only its first launches, to measure them, if `launches` says so.
inline constexpr int kAllLaunches = 1 << 30;
void run_gpu(const GpuLayer& layer, const GpuPlan& plan, const MoeBuffers& buffers,
             cuda::CUstream stream, int launches = kAllLaunches);

/// tokens x router^T + router_bias, [T, E] f32, on the CPU.
Tensor router_logits(const MoeWeights& weights, ConstTensorView tokens);

/// Copies host arrays to the GPU, runs, and copies the results back.
MoeCounters run_gpu_from_host(const GpuLayer& layer, const GpuPlan& plan,
                              const MoeBuffers& buffers);

}  // namespace switchyard::moe
