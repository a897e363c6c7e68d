#include "ops/dense_moe/gpu.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/math.h"

namespace switchyard::dense_moe {
namespace {

const uint8* bytes(const std::byte* data) {
  return reinterpret_cast<const uint8*>(data);
}

}  // namespace

GpuGemm::GpuGemm(const cuda::Context& context, jit::Loader& loader, const GpuProblem& problem,
                 const std::optional<Tactic>& tactic)
    : problem_(problem) {
  const cuda::DeviceInfo& device = context.info();
  if (const auto decline = declines(problem, device))
    throw Unsupported(fmt::format("[dense_moe] {}: {}.", name(decline->reason), decline->text));
  if (tactic)
    if (const auto reason = declines(problem, *tactic, device))
      throw Unsupported(fmt::format("[dense_moe] {}.", *reason));
  tactic_ = tactic ? *tactic : tactics(problem, device).front();
  scratch_ = scratch(problem, tactic_, device);
  launch_ = launch(problem, tactic_, loader.kernel(program(tactic_.config, device.sm)), device);
}

GpuGemm::GpuGemm(const cuda::DeviceInfo& device, const GpuProblem& problem, const Tactic& tactic,
                 jit::Kernel kernel)
    : problem_(problem),
      tactic_(tactic),
      scratch_(scratch(problem, tactic, device)),
      launch_(launch(problem, tactic, std::move(kernel), device)) {}

void GpuGemm::enqueue(int tokens, const GpuOperands& o, std::byte* memory,
                      cuda::CUstream stream) const {
  SWITCHYARD_ASSERT(tokens <= problem_.tokens);
  if (tokens == 0) return;
  const GpuProblem& p = problem_;
  const bool fc1 = p.phase == Phase::fc1;
  const Blocks blocks = blocks_of(tokens, tactic_.config);
  const int k_tiles = ceil_div(p.width(), Config::kDepth);
  const auto at = [&](std::int64_t offset) { return memory + offset; };
  jit::enqueue(launch_,
               Args{.weights = bytes(o.weights),
                    .x = {.codes = bytes(o.x),
                          .scales = bytes(o.x_scales),
                          .tokens = o.tokens,
                          .encode_scale = o.encode_scale,
                          .alpha = fc1 ? nullptr : o.alpha,
                          .experts_listed = fc1 ? nullptr : o.experts,
                          .tiles = reinterpret_cast<uint8*>(at(scratch_.tiles)),
                          .steps = reinterpret_cast<float*>(at(scratch_.steps)),
                          .rests = reinterpret_cast<float*>(at(scratch_.rests)),
                          .token_count = tokens,
                          .experts = fc1 ? 1 : p.experts,
                          .width = p.width(),
                          .k_tiles = k_tiles,
                          .blocks = blocks.count,
                          .block_rows = blocks.rows,
                          .token_stride = o.token_stride,
                          .expert_stride = o.expert_stride},
                    .alpha = o.alpha,
                    .post = o.alpha_post,
                    .experts_listed = o.experts,
                    .out = o.out,
                    .out_scales = reinterpret_cast<uint8*>(o.out_scales),
                    .partial = reinterpret_cast<float*>(at(scratch_.partial)),
                    .marks = reinterpret_cast<uint64*>(at(scratch_.marks)),
                    .barrier = reinterpret_cast<uint64*>(at(scratch_.barrier)),
                    .alpha_factor = o.alpha_factor * device::kFp4Factor,
                    .alpha_parts = o.alpha_parts,
                    .norm_const = o.norm_const,
                    .tokens = tokens,
                    .experts = p.experts,
                    .outputs = fc1 ? p.intermediate : p.hidden,
                    .row_tiles = ceil_div(p.rows(), 128),
                    .k_tiles = k_tiles,
                    .split = tactic_.split},
               stream);
}

}  // namespace switchyard::dense_moe
