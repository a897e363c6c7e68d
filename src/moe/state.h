#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "moe/experts.h"
#include "moe/gpu_layer.h"
#include "moe/gpu_plan.h"
#include "moe/group.h"
#include "moe/workspace.h"
#include "ops/grouped_gemm/cpu.h"
#include "switchyard/moe.h"

namespace switchyard {

/// A layer: what was given, checked, and the threads that run it.
struct MoeState {
  MoeConfig config;
  MoeWeights weights;
  Device device;
  std::unique_ptr<ThreadPool> pool;    ///< CPU only
  std::unique_ptr<moe::GpuLayer> gpu;  ///< CUDA only; `weights` has the router alone then

  std::int64_t scores() const noexcept { return config.experts + config.routing.zero_experts; }
};

/// What a call does, decided once: value types and offsets, no pointer into a workspace.
struct PlanState {
  std::int64_t max_tokens = 0;
  std::size_t workspace_bytes = 0;
  std::vector<moe::Step> steps;
  std::vector<std::string> declined;
  std::shared_ptr<const moe::GpuPlan> gpu;  ///< CUDA only; nothing below is used then

  grouped_gemm::CpuGemm router, latent_down, latent_up;
  moe::ExpertsPlan experts;  ///< routed
  moe::ExpertsPlan shared;

  moe::Slice tokens;   ///< [T, H + pad]  f32
  moe::Slice latent;   ///< [T, L + pad]  f32; `tokens` without a latent projection
  moe::Slice logits;   ///< [T, E + zero experts]  f32
  moe::Slice ids;      ///< [T, K]  i32
  moe::Slice weights;  ///< [T, K]  f32
  moe::Slice route;    ///< a router's scratch, one part a thread
  moe::GroupSlices group;
  moe::Slice combined;  ///< [T, W + pad]  f32, W = expert width
  moe::Slice result;    ///< [T, H]  f32; `combined` without a latent projection
};

}  // namespace switchyard
