#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/bench/machine.h"
#include "moe/gpu_plan.h"
#include "moe/random_layer.h"
#include "moe/state.h"

namespace switchyard::cli::bench {

enum class Compare { no, with_definition };

/// Tokens of one batch on the GPU, with several routings, and what a plan does with them.
class Batch {
 public:
  Batch(const Machine& machine, const MoeState& layer, const MoeWeights& weights,
        const MoeProblem& problem, moe::Values& values);

  /// Experts that a routing reaches, their mean.
  double active_experts() const noexcept { return active_; }

  /// What `experts` gives: variant, error_ratio, repeatable, median_us and the percentiles of
  /// `samples` graph replays, host_us, workspace_bytes.
  nlohmann::json measure(const moe::GpuExperts& experts, int samples, Compare compare);

  /// A row for each of its launches: op, variant, bytes, flops, and what the launch adds to those
  /// before it.
  std::vector<nlohmann::json> measure_ops(const moe::GpuExperts& experts, int samples);

 private:
  using Half = std::uint16_t;

  cuda::DeviceBuffer upload(const Tensor& t) const;
  MoeBuffers buffers(const cuda::DeviceBuffer& workspace, int routing) const;
  MoeBuffers host_inputs(int routing) const;
  PlanState plan(const moe::GpuExperts& experts) const;
  void enqueue(const PlanState& plan, const cuda::DeviceBuffer& workspace, int routing,
               int launches = moe::kAllLaunches) const;
  std::vector<Half> run(const PlanState& plan, const cuda::DeviceBuffer& workspace,
                        unsigned char poison) const;
  std::vector<double> graph_us(const PlanState& plan, const cuda::DeviceBuffer& workspace,
                               int samples, int launches = moe::kAllLaunches) const;
  double host_us(const PlanState& plan, const cuda::DeviceBuffer& workspace) const;
  void define();
  double error_ratio(const std::vector<Half>& out);

  const Machine& machine_;
  const MoeState& layer_;
  const MoeWeights& weights_;
  const MoeProblem& problem_;
  Tensor tokens_;
  std::vector<Tensor> logits_;
  cuda::DeviceBuffer device_tokens_, out_;
  std::vector<cuda::DeviceBuffer> device_logits_;
  std::vector<std::int64_t> compared_;  ///< tokens
  std::vector<double> exact_, honest_;
  double active_ = 0;
};

}  // namespace switchyard::cli::bench
