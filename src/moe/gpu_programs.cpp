#include "moe/gpu_programs.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/check.h"
#include "moe/gpu_picks.h"
#include "ops/repack/plan.h"

namespace switchyard::moe {
namespace {

/// What programs depend on is the same for every device of an architecture.
cuda::DeviceInfo any_device(int sm) {
  cuda::DeviceInfo device = h200();
  device.name = jit::architecture(sm), device.sm = sm;
  return device;
}

std::optional<std::string> shape_of(const MoeProblem& p, GpuShape& shape) {
  const int locals = p.config.experts / p.ep_ranks;
  if (auto reason = gpu_declines(p.config, p.format, locals, shape)) return reason;
  shape.bias = p.bias;
  shape.config.intermediate /= p.tp_ranks;
  shape.config.shared_intermediate /= p.tp_ranks;
  return std::nullopt;
}

}  // namespace

std::optional<std::string> gpu_declines(const MoeProblem& problem, int sm) {
  GpuShape shape;
  if (auto reason = shape_of(problem, shape)) return reason;
  std::vector<std::string> declined;
  if (gpu_candidates(shape, problem.tokens, any_device(sm), declined).empty())
    return fmt::format("{}", fmt::join(declined, "; "));
  return std::nullopt;
}

cuda::DeviceInfo h200() {
  return {.name = "NVIDIA H200",
          .sm = 90,
          .multiprocessors = 132,
          .smem_per_block = 227 << 10,
          .l2_bytes = 60 << 20,
          .clock_khz = 1'980'000,
          .memory_clock_khz = 3'201'000,
          .memory_bus_bits = 6144,
          .memory_bytes = std::size_t{143'166} << 20};
}

GpuShape gpu_shape(const MoeProblem& problem) {
  GpuShape shape;
  if (const auto reason = shape_of(problem, shape))
    throw Unsupported(fmt::format("[gpu] {}: {}.", to_string(problem), *reason));
  return shape;
}

GpuPlan plan_problem(const MoeProblem& problem, const cuda::DeviceInfo& device) {
  return tuned_plan(gpu_shape(problem), problem.tokens, device);
}

std::vector<jit::Program> gpu_programs(const MoeProblem& problem, int sm) {
  const GpuShape shape = gpu_shape(problem);
  std::vector<jit::Program> all = {
      shape.weights == Weights::half
          ? repack::program({.direction = repack::Direction::pack}, sm)
          : repack::fp4_program(shape.weights, repack::Direction::pack, sm),
      repack::norm_program(shape.half, shape.weights, sm)};
  const auto add = [&](const GpuPlan& plan) {
    for (jit::Program& p : programs(plan, sm))
      if (std::find(all.begin(), all.end(), p) == all.end()) all.push_back(std::move(p));
  };
  add(make_gpu_plan(shape, problem.tokens, any_device(sm)));
  if (sm == h200().sm) add(tuned_plan(shape, problem.tokens, h200()));
  return all;
}

}  // namespace switchyard::moe
