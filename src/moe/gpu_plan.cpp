#include "moe/gpu_plan.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/math.h"

namespace switchyard::moe {
namespace {

/// Matrices [I, H] of FC1: gate and up, or up alone.
int fc1_matrices(const GpuShape& s) {
  return device::is_gated(s.activation) ? 2 : 1;
}

/// Bytes of a weight.
double weight_size(const GpuShape& s) {
  return device::tile_bytes(s.weights) / (128.0 * 64);
}

constexpr std::int64_t kAlignment = 256;

/// A launch that moves `bytes` and does `flops`: whichever takes longer, at the share of its peak
/// that an H200 reaches (reading memory; cuBLAS), behind what starting and draining a kernel takes.
double expected_us(const cuda::DeviceInfo& device, std::int64_t bytes, std::int64_t flops) {
  constexpr double kReadShare = 0.94, kTensorShare = 0.74, kStartUs = 4;
  constexpr double kFlopsAClock = 4096;  // of an SM's tensor cores, 16-bit operands
  const double bytes_a_us = kReadShare * device.memory_clock_khz * device.memory_bus_bits / 4000;
  const double flops_a_us =
      kTensorShare * kFlopsAClock * device.multiprocessors * device.clock_khz / 1000;
  return kStartUs +
         std::max(static_cast<double>(bytes) / bytes_a_us, static_cast<double>(flops) / flops_a_us);
}

class Planner {
 public:
  Planner(const GpuShape& shape, int tokens, const cuda::DeviceInfo& device)
      : shape_(shape), tokens_(tokens), device_(device) {}

  GpuPlan make(const std::optional<GpuExperts>& forced) {
    const std::vector<GpuExperts> all = gpu_candidates(shape_, tokens_, device_, plan_.declined);
    if (!forced && all.empty())
      throw Unsupported(fmt::format("[moe.plan] no GPU variant serves {} tokens: {}.", tokens_,
                                    fmt::join(plan_.declined, "; ")));
    plan_.experts = forced ? *forced : all.front();
    if (!forced && all.size() > 1)
      plan_.declined.push_back(fmt::format(
          "{} more variants: the cost model expects them to be slower, first of them {}",
          all.size() - 1, to_string(all[1])));
    routing();
    if (plan_.experts.dense)
      dense();
    else
      plan_.experts.fused ? fused() : grouped();
    plan_.workspace_bytes = static_cast<std::size_t>(arena_.bytes());
    return std::move(plan_);
  }

 private:
  void routing() {
    const bool inside = plan_.experts.fused && plan_.experts.fused->routes;
    const route::GpuProblem problem = route_problem(shape_, tokens_, plan_.experts.block());
    for (const bool given : {false, true}) {
      route::GpuProblem one = problem;
      one.given = given;
      GpuPlan::Route& to = given ? plan_.given_route : plan_.logits_route;
      to.problem = one;
      if (auto reason = route::gpu_declines(one, device_)) {
        plan_.declined.push_back(*std::move(reason));
      } else if (!inside) {
        to.configs = route::gpu_configs(one);
      }
    }
    const route::ListSizes sizes = route::list_sizes(problem);
    const std::int64_t pairs = std::int64_t{tokens_} * shape_.config.top_k;
    plan_.row_capacity = sizes.rows;
    plan_.ids = take<int>(pairs);
    plan_.weights = take<float>(pairs);
    plan_.block_count = take<int>(1);
    plan_.blocks = take<device::Block>(sizes.blocks);
    plan_.row_token = take<int>(sizes.rows);
    plan_.row_weight = take<float>(sizes.rows);
    plan_.slot_row = take<int>(std::int64_t{tokens_} * shape_.slots_a_token());
    for (const route::Config& config : plan_.logits_route.configs)
      step("route", to_string(config),
           (std::int64_t{tokens_} * shape_.config.experts + 4 * pairs) * 4, 0, plan_.ids);
  }

  void fused() {
    plan_.fused_problem = fused_problem(shape_, tokens_, device_);
    const fused_moe::Scratch s =
        fused_moe::scratch(plan_.fused_problem, *plan_.experts.fused, plan_.row_capacity, device_);
    plan_.act = take<std::byte>(s.act);
    plan_.partial = take<std::byte>(s.partial);
    plan_.marks = take<std::uint64_t>(s.marks);
    step("fused_moe", to_string(*plan_.experts.fused),
         weight_bytes(fc1_matrices(shape_) + 1) + token_bytes(), flops(fc1_matrices(shape_) + 1),
         plan_.act);
  }

  void grouped() {
    plan_.grouped_problem = grouped_problem(shape_, tokens_);
    plan_.finalize_config = {.half = shape_.half,
                             .weighted = !shape_.config.router_weight_on_input};
    const grouped_gemm::GpuConfigs& configs = *plan_.experts.grouped;
    const grouped_gemm::Scratch s =
        grouped_gemm::scratch(plan_.grouped_problem, configs, plan_.row_capacity);
    plan_.act = take<std::byte>(s.act);
    plan_.row_scale = take<float>(plan_.row_capacity);
    plan_.unit = take<float>(tokens_);
    plan_.sums = take<std::byte>(s.sums);
    plan_.rows = take<std::byte>(s.rows);
    plan_.spans = s.spans;
    plan_.width = configs.spans.width;
    plan_.slots = configs.spans.slots;
    plan_.bounds_at = s.bounds;
    plan_.flag_count = s.flags;
    plan_.flags = take<std::uint32_t>(s.flags);
    step("fc1", to_string(configs.fc1), weight_bytes(fc1_matrices(shape_)) + token_bytes(),
         flops(fc1_matrices(shape_)), plan_.act);
    const bool finalizes = plan_.experts.finalizes();
    const std::int64_t stored = finalizes ? row_bytes() : 0;
    step("fc2", to_string(configs.fc2), weight_bytes(1) + (finalizes ? stored : token_bytes()),
         flops(1), finalizes ? plan_.rows : plan_.sums);
    if (finalizes)
      step("finalize", to_string(plan_.finalize_config), stored + token_bytes(), 0, plan_.rows);
  }

  void dense() {
    const DenseTactics& t = *plan_.experts.dense;
    plan_.dense_fc1 = dense_problem(shape_, tokens_, dense_moe::Phase::fc1);
    plan_.dense_fc2 = dense_problem(shape_, tokens_, dense_moe::Phase::fc2);
    const std::int64_t columns = std::int64_t{shape_.locals} * shape_.config.intermediate;
    plan_.alpha = take<float>(std::int64_t{tokens_} * shape_.locals);
    plan_.post = take<float>(shape_.config.fused_alpha ? std::int64_t{tokens_} * shape_.locals : 0);
    plan_.listed = take<int>(1 + shape_.locals);
    plan_.codes = take<std::byte>(tokens_ * columns / 2);
    plan_.code_scales = take<std::byte>(round_up<std::int64_t>(tokens_, 128) *
                                        round_up<std::int64_t>(columns / 16, 4));
    plan_.scratch = take<std::byte>(std::max(scratch(plan_.dense_fc1, t.fc1, device_).bytes,
                                             scratch(plan_.dense_fc2, t.fc2, device_).bytes));
    const double experts = t.active ? reached(shape_, tokens_) : shape_.locals;
    const auto work = [&](int matrices, double each) {
      return static_cast<std::int64_t>(experts * matrices * each * shape_.config.hidden *
                                       shape_.config.intermediate);
    };
    step("alpha", t.active ? "and the experts that have tokens" : "all experts",
         std::int64_t{tokens_} * shape_.locals * 4, 0, plan_.alpha);
    step("dense_fc1", to_string(t.fc1), work(2, weight_size(shape_)) + token_bytes(),
         work(2, 2.0 * tokens_), plan_.codes);
    step("dense_fc2", to_string(t.fc2), work(1, weight_size(shape_)) + token_bytes(),
         work(1, 2.0 * tokens_), plan_.scratch);
  }

  /// Of FC2's rows that are stored.
  std::int64_t row_bytes() const {
    return std::int64_t{tokens_} * shape_.slots_a_token() * shape_.config.hidden * 2;
  }
  std::int64_t weight_bytes(int matrices) const {
    return static_cast<std::int64_t>(reached(shape_, tokens_) * weight_size(shape_) * matrices *
                                     shape_.config.hidden * shape_.config.intermediate);
  }
  std::int64_t token_bytes() const { return std::int64_t{tokens_} * shape_.config.hidden * 4; }
  std::int64_t flops(int matrices) const {
    const double here = static_cast<double>(shape_.locals) / shape_.config.experts;
    const double rows = tokens_ * (shape_.config.top_k * here + shape_.shared);
    return static_cast<std::int64_t>(rows * 2.0 * matrices * shape_.config.hidden *
                                     shape_.config.intermediate);
  }

  /// Every slice is aligned like the workspace.
  template <class T>
  Slice take(std::int64_t count) {
    return arena_.take<std::byte>(
        round_up<std::int64_t>(count * static_cast<std::int64_t>(sizeof(T)), kAlignment));
  }
  void step(std::string op, std::string variant, std::int64_t bytes, std::int64_t flops,
            Slice out) {
    plan_.steps.push_back({.op = std::move(op),
                           .variant = std::move(variant),
                           .bytes = bytes,
                           .flops = flops,
                           .out = out,
                           .expected_us = expected_us(device_, bytes, flops)});
  }

  const GpuShape& shape_;
  const int tokens_;
  const cuda::DeviceInfo& device_;
  Arena arena_;
  GpuPlan plan_;
};

}  // namespace

GpuPlan make_gpu_plan(const GpuShape& shape, int tokens, const cuda::DeviceInfo& device,
                      const std::optional<GpuExperts>& experts) {
  return Planner(shape, tokens, device).make(experts);
}

std::vector<jit::Program> programs(const GpuPlan& plan, int sm) {
  std::vector<jit::Program> all;
  for (const GpuPlan::Route* r : {&plan.logits_route, &plan.given_route})
    for (const route::Config& config : r->configs) all.push_back(route::program(config, sm));
  if (plan.experts.dense) {
    all.push_back(dense_moe::alpha_program(sm));
    all.push_back(dense_moe::program(plan.experts.dense->fc1.config, sm));
    all.push_back(dense_moe::program(plan.experts.dense->fc2.config, sm));
  } else if (plan.experts.fused) {
    all.push_back(fused_moe::program(*plan.experts.fused, sm));
  } else {
    all.push_back(grouped_gemm::program(plan.experts.grouped->fc1, sm));
    all.push_back(grouped_gemm::program(plan.experts.grouped->fc2, sm));
    if (plan.experts.finalizes()) all.push_back(finalize::program(plan.finalize_config, sm));
  }
  return all;
}

void load(GpuPlan& plan, const GpuLayer& layer) {
  const cuda::DeviceInfo& device = layer.context().info();
  const std::vector<jit::Program> all = programs(plan, device.sm);
  const std::vector<jit::Kernel> kernels =
      layer.loader().kernels(all, static_cast<int>(all.size()));
  auto kernel = kernels.begin();
  for (GpuPlan::Route* r : {&plan.logits_route, &plan.given_route})
    for (const route::Config& config : r->configs)
      r->launches.push_back(route::launch(config, r->problem, *kernel++));
  if (plan.experts.dense) {
    plan.launches = {dense_moe::alpha_launch(plan.dense_fc1.tokens, kernel[0])};
    plan.gemms = {{device, plan.dense_fc1, plan.experts.dense->fc1, kernel[1]},
                  {device, plan.dense_fc2, plan.experts.dense->fc2, kernel[2]}};
    return;
  }
  if (plan.experts.fused) {
    plan.launches = {fused_moe::launch(*plan.experts.fused, *kernel, device)};
    return;
  }
  plan.launches = {grouped_gemm::launch(plan.experts.grouped->fc1, kernel[0], device),
                   grouped_gemm::launch(plan.experts.grouped->fc2, kernel[1], device)};
  if (plan.experts.finalizes())
    plan.launches.push_back(
        finalize::launch(plan.grouped_problem.tokens, plan.grouped_problem.hidden, kernel[2]));
}

}  // namespace switchyard::moe
