#include "moe/gpu_programs.h"

#include <fmt/ranges.h>

#include "base/check.h"
#include "moe/gpu_plan.h"
#include "ops/repack/plan.h"

namespace switchyard::moe {
namespace {

/// What programs depend on is the same for every device of an architecture.
cuda::DeviceInfo any_device(int sm) {
  return {.name = jit::architecture(sm),
          .sm = sm,
          .multiprocessors = 132,
          .smem_per_block = 227 << 10,
          .l2_bytes = 50 << 20,
          .clock_khz = 1'980'000,
          .memory_bytes = std::size_t{80} << 30};
}

std::optional<std::string> shape_of(const MoeProblem& p, GpuShape& shape) {
  const int locals = p.config.experts / p.ep_ranks;
  if (auto reason = gpu_declines(p.config, p.format, locals, shape)) return reason;
  shape.bias = p.bias;
  shape.config.intermediate /= p.tp_ranks;
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

std::vector<jit::Program> gpu_programs(const MoeProblem& problem, int sm) {
  if (const auto reason = gpu_declines(problem, sm))
    throw Unsupported(fmt::format("[gpu] {}: {}.", to_string(problem), *reason));
  GpuShape shape;
  shape_of(problem, shape);
  std::vector<jit::Program> all = {repack::program({.direction = repack::Direction::pack}, sm),
                                   repack::norm_program(shape.half, sm)};
  for (jit::Program& p : programs(make_gpu_plan(shape, problem.tokens, any_device(sm)), sm))
    all.push_back(std::move(p));
  return all;
}

}  // namespace switchyard::moe
