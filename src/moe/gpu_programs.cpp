#include "moe/gpu_programs.h"

#include "base/check.h"
#include "ops/fused_moe/plan.h"
#include "ops/repack/plan.h"
#include "ops/route/plan.h"

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

std::optional<fused_moe::Activation> kernel_activation(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::swiglu:
      return fused_moe::Activation::swiglu;
    case ActivationKind::swiglu_oai:
    case ActivationKind::swiglu_clamp:
      return fused_moe::Activation::swiglu_oai;
    case ActivationKind::geglu_tanh:
      return fused_moe::Activation::geglu_tanh;
    case ActivationKind::situ:
      return fused_moe::Activation::situ;
    default:
      return std::nullopt;
  }
}

route::Problem route_problem(const MoeProblem& p) {
  return {.tokens = p.tokens,
          .experts = p.config.experts,
          .top_k = p.config.top_k,
          .routing = p.config.routing};
}

/// Only for activations that have a kernel.
fused_moe::Problem fused_problem(const MoeProblem& p) {
  return {.tokens = p.tokens,
          .hidden = p.config.hidden,
          .intermediate = p.config.intermediate,
          .experts = p.config.experts,
          .top_k = p.config.top_k,
          .activation = *kernel_activation(p.config.activation.kind),
          .bias = p.bias};
}

std::optional<std::string> mathematics_declines(const MoeProblem& p) {
  const MoeConfig& c = p.config;
  if (p.format != weight_format("bf16"))
    return fmt::format("weights: GPU kernels take bf16, got {}", to_string(p.format));
  if (c.act != ActivationFormat::bf16)
    return fmt::format("act: GPU kernels take bf16, got {}", name(c.act));
  if (!kernel_activation(c.activation.kind))
    return fmt::format("activation: {} has no GPU kernel", name(c.activation.kind));
  if (c.router_weight_on_input) return "on_input: GPU kernels weigh the experts' outputs";
  if (c.dense) return "dense: GPU kernels visit chosen experts alone";
  if (c.shared_intermediate > 0) return "shared: a shared expert has no GPU kernel";
  if (c.latent > 0) return "latent: the projections have no GPU kernel";
  return std::nullopt;
}

}  // namespace

std::optional<std::string> gpu_declines(const MoeProblem& problem, int sm) {
  if (auto reason = mathematics_declines(problem)) return reason;
  const cuda::DeviceInfo device = any_device(sm);
  if (auto reason = fused_moe::sm90_declines(fused_problem(problem), device)) return reason;
  return route::small_batch_declines(route_problem(problem), device);
}

std::vector<jit::Program> gpu_programs(const MoeProblem& problem, int sm) {
  if (const auto reason = gpu_declines(problem, sm))
    throw Unsupported(fmt::format("[gpu] {}: {}.", to_string(problem), *reason));
  const fused_moe::Config fused =
      fused_moe::candidates(fused_problem(problem), any_device(sm)).at(0);
  return {repack::program({.direction = repack::Direction::pack}, sm),
          route::program(route::small_batch_config(route_problem(problem), fused.block), sm),
          fused_moe::program(fused, sm)};
}

}  // namespace switchyard::moe
