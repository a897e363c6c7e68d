// The layer on a GPU: pointers into the caller's workspace, then the plan's launches.

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "base/math.h"
#include "base/thread_pool.h"
#include "formats/convert.h"
#include "moe/gpu_plan.h"
#include "ops/grouped_gemm/cpu.h"

namespace switchyard::moe {
namespace {

using cuda::DeviceBuffer;

class Call {
 public:
  Call(const GpuLayer& layer, const GpuPlan& plan, const MoeBuffers& buffers, cuda::CUstream stream)
      : layer_(layer), plan_(plan), b_(buffers), stream_(stream), shape_(layer.shape()) {}

  void enqueue(int launches) const {
    const cuda::Current current(layer_.context());
    const auto next = [&](const jit::Launch& launch, const auto& args) {
      if (launches-- > 0) jit::enqueue(launch, args, stream_);
    };
    for (const jit::Launch& launch : route().launches) next(launch, route_args());
    if (plan_.experts.dense) {
      dense(launches);
    } else if (plan_.experts.fused) {
      next(plan_.launches[0], fused_args());
    } else {
      next(plan_.launches[0], gemm_args(grouped_gemm::Phase::fc1));
      next(plan_.launches[1], gemm_args(grouped_gemm::Phase::fc2));
      if (plan_.experts.finalizes()) next(plan_.launches[2], finalize_args());
    }
  }

 private:
  const GpuPlan::Route& route() const {
    return b_.expert_ids ? plan_.given_route : plan_.logits_route;
  }
  device::Logits logit_type() const {
    const DType type = b_.router_logits.dtype;
    return type == DType::f32    ? device::Logits::f32
           : type == DType::bf16 ? device::Logits::bf16
                                 : device::Logits::fp16;
  }

  template <class T>
  T* at(Slice slice) const {
    return slice.in<T>(b_.workspace);
  }
  int tokens() const { return static_cast<int>(b_.tokens.shape[0]); }
  const std::uint16_t* token_data() const { return b_.tokens.as<std::uint16_t>(); }

  device::Lists lists() const {
    return {.block_count = at<int>(plan_.block_count),
            .blocks = at<device::Block>(plan_.blocks),
            .row_token = at<int>(plan_.row_token),
            .row_weight = at<float>(plan_.row_weight),
            .slot_row = at<int>(plan_.slot_row)};
  }
  device::ActivationConstants constants() const {
    const Activation& a = shape_.config.activation;
    return {.alpha = a.alpha, .beta = a.beta, .limit = a.limit, .linear_beta = a.linear_beta};
  }

  device::Router router() const {
    const bool given = static_cast<bool>(b_.expert_ids);
    // Kernels only read given ids.
    int* ids = given           ? const_cast<int*>(b_.expert_ids.as<int>())
               : b_.chosen_ids ? b_.chosen_ids.as<int>()
                               : at<int>(plan_.ids);
    float* weights = given               ? const_cast<float*>(b_.expert_weights.as<float>())
                     : b_.chosen_weights ? b_.chosen_weights.as<float>()
                                         : at<float>(plan_.weights);
    return {.logits = given ? nullptr : b_.router_logits.data,
            .correction = layer_.correction.as<float>(),
            .hash_table = layer_.hash_table.as<int>(),
            .input_ids = b_.input_ids.data,
            .expert_map = layer_.expert_map.as<int>(),
            .expert_ids = ids,
            .expert_weights = weights,
            .counters = b_.counters.as<unsigned long long>(),
            .experts = shape_.config.experts,
            .vocabulary = layer_.vocabulary,
            .type = logit_type(),
            .wide_ids = b_.input_ids.dtype == DType::i64,
            .scaling = shape_.config.routing.scaling};
  }

  route::Args route_args() const {
    return {.router = router(),
            .tokens = token_data(),
            .shared_gate = layer_.shared_gate.as<float>(),
            .token_count = b_.token_count.as<int>(),
            .lists = lists(),
            .flag = at<std::uint32_t>(plan_.flags),
            .token_limit = tokens(),
            .locals = shape_.locals,
            .hidden = shape_.config.hidden,
            .flags = plan_.flag_count,
            .block = plan_.experts.block()};
  }

  dense_moe::AlphaArgs alpha_args() const {
    const device::Router chosen = router();
    const bool fused = shape_.config.fused_alpha;
    return {.ids = chosen.expert_ids,
            .weights = chosen.expert_weights,
            .factors = layer_.down_factors.as<float>(),
            .token_count = b_.token_count.as<int>(),
            .alpha = at<float>(fused ? plan_.post : plan_.alpha),
            .listed = at<int>(plan_.listed),
            // down_factors have kFp4Factor in them.
            .factor = (fused ? 1 / layer_.fused_factor : layer_.input_scale2) / device::kFp4Factor,
            .token_limit = tokens(),
            .top_k = shape_.config.top_k,
            .experts = shape_.locals,
            .last_counts = shape_.config.dense || fused};
  }

  /// FC1 over the experts, NVFP4 between, FC2; with fused alpha the router's weights come before
  /// the second quantisation, and FC2 has one factor for all.
  void dense(int launches) const {
    const bool fused = shape_.config.fused_alpha;
    if (launches-- > 0) jit::enqueue(plan_.launches[0], alpha_args(), stream_);
    const int* experts = plan_.experts.dense->active ? at<int>(plan_.listed) : nullptr;
    auto* scratch = at<std::byte>(plan_.scratch);
    if (launches-- > 0)
      plan_.gemms[0].enqueue(tokens(),
                             {.weights = layer_.gate_up.data(),
                              .tokens = token_data(),
                              .encode_scale = 1 / layer_.input_scale1,
                              .alpha = layer_.gate_up_factors.as<float>(),
                              .alpha_parts = 2,
                              .alpha_factor = layer_.input_scale1 / device::kFp4Factor,
                              .alpha_post = fused ? at<float>(plan_.post) : nullptr,
                              .experts = experts,
                              .norm_const = 1 / layer_.input_scale2,
                              .out = at<std::byte>(plan_.codes),
                              .out_scales = at<std::byte>(plan_.code_scales)},
                             scratch, stream_);
    if (launches-- > 0)
      plan_.gemms[1].enqueue(
          tokens(),
          {.weights = layer_.down.data(),
           .x = at<std::byte>(plan_.codes),
           .x_scales = at<std::byte>(plan_.code_scales),
           .alpha = fused ? layer_.fused_alpha.as<float>() : at<float>(plan_.alpha),
           .token_stride = fused ? 0 : shape_.locals,
           .expert_stride = fused ? 0 : 1,
           .experts = experts,
           .out = b_.out.as<std::byte>()},
          scratch, stream_);
  }

  fused_moe::Args fused_args() const {
    using fused_moe::Config;
    const MoeConfig& c = shape_.config;
    const int depth = plan_.experts.fused->depth;
    return {.tokens = token_data(),
            .gate_up = layer_.gate_up.as<unsigned char>(),
            .down = layer_.down.as<unsigned char>(),
            .factors1 = layer_.gate_up_factors.as<float>(),
            .factors2 = layer_.down_factors.as<float>(),
            .gate_up_bias = layer_.gate_up_bias.as<float>(),
            .down_bias = layer_.down_bias.as<float>(),
            .lists = lists(),
            .router = router(),
            .token_count = b_.token_count.as<int>(),
            .act = at<std::uint16_t>(plan_.act),
            .out = b_.out.as<std::uint16_t>(),
            .partial = at<float>(plan_.partial),
            .marks = at<unsigned long long>(plan_.marks),
            .token_limit = tokens(),
            .hidden = c.hidden,
            .intermediate = c.intermediate,
            .locals = shape_.locals,
            .row_tiles1 = ceil_div(gate_up_rows(), Config::kRows),
            .k_tiles1 = ceil_div(c.hidden, Config::kDepth),
            .row_tiles2 = ceil_div(c.hidden, Config::kRows),
            .k_tiles2 = ceil_div(c.intermediate, Config::kDepth),
            .k_steps1 = ceil_div(ceil_div(c.hidden, Config::kDepth), depth),
            .k_steps2 = ceil_div(ceil_div(c.intermediate, Config::kDepth), depth),
            .constants = constants()};
  }

  finalize::Args finalize_args() const {
    return {.rows = at<std::uint16_t>(plan_.rows),
            .row_bound = at<std::uint32_t>(plan_.flags) + plan_.bounds_at,
            .lists = lists(),
            .token_count = b_.token_count.as<int>(),
            .out = b_.out.as<std::uint16_t>(),
            .token_limit = tokens(),
            .hidden = shape_.config.hidden,
            .slots_a_token = shape_.slots_a_token()};
  }

  int gate_up_rows() const {
    return (device::is_gated(shape_.activation) ? 2 : 1) * shape_.config.intermediate;
  }

  grouped_gemm::Args gemm_args(grouped_gemm::Phase phase) const {
    using grouped_gemm::Config;
    const MoeConfig& c = shape_.config;
    const bool fc1 = phase == grouped_gemm::Phase::fc1;
    auto* flags = at<std::uint32_t>(plan_.flags);
    const DeviceBuffer& weights = fc1 ? layer_.gate_up : layer_.down;
    const DeviceBuffer& bias = fc1 ? layer_.gate_up_bias : layer_.down_bias;
    return {.weights = weights.as<unsigned char>(),
            .bias = bias.as<float>(),
            .factors = (fc1 ? layer_.gate_up_factors : layer_.down_factors).as<float>(),
            .norms = layer_.down_norms.as<grouped_gemm::RowNorm>(),
            .lists = lists(),
            .token_count = b_.token_count.as<int>(),
            .tokens = token_data(),
            .act = at<std::uint16_t>(plan_.act),
            .row_bound = flags + plan_.bounds_at,
            .row_scale = at<float>(plan_.row_scale),
            .unit = at<float>(plan_.unit),
            .sums = at<std::uint32_t>(plan_.sums),
            .out = plan_.experts.finalizes() ? at<std::uint16_t>(plan_.rows)
                                             : b_.out.as<std::uint16_t>(),
            .scaled = flags,
            .done = flags + 1,
            .emptied = flags + 1 + plan_.spans,
            .sum_words = static_cast<std::int64_t>(plan_.sums.bytes / 4),
            .token_limit = tokens(),
            .hidden = c.hidden,
            .intermediate = c.intermediate,
            .row_capacity = plan_.row_capacity,
            .row_tiles = ceil_div(fc1 ? gate_up_rows() : c.hidden, Config::kRows),
            .k_tiles = ceil_div(fc1 ? c.hidden : c.intermediate, Config::kDepth),
            .width = fc1 ? ceil_div(gate_up_rows(), plan_.experts.grouped->fc1.wide_rows())
                         : plan_.width,
            .slots = plan_.slots,
            .slots_a_token = shape_.slots_a_token(),
            .constants = constants()};
  }

  const GpuLayer& layer_;
  const GpuPlan& plan_;
  const MoeBuffers& b_;
  cuda::CUstream stream_;
  const GpuShape& shape_;
};

/// Device copies of a call's host arrays.
class Mirror {
 public:
  Mirror(const GpuLayer& layer, const GpuPlan& plan, const MoeBuffers& host)
      : context_(layer.context()), stream_(context_), host_(host), device_(host) {
    device_.tokens.data = in(host.tokens);
    device_.router_logits.data = in(host.router_logits);
    device_.expert_ids.data = in(host.expert_ids);
    device_.expert_weights.data = in(host.expert_weights);
    device_.input_ids.data = in(host.input_ids);
    device_.out.data = out(host.out);
    device_.chosen_ids.data = out(host.chosen_ids);
    device_.chosen_weights.data = out(host.chosen_weights);
    const std::int64_t none[3] = {};
    device_.counters = {.data = in({none, DType::i64, {3}}), .dtype = DType::i64, .shape = {3}};
    device_.workspace = {allocate(plan.workspace_bytes), plan.workspace_bytes};
    stream_.synchronize();
  }

  const MoeBuffers& buffers() const noexcept { return device_; }
  cuda::CUstream stream() const noexcept { return stream_.get(); }

  MoeCounters fetch() {
    back(host_.out, device_.out);
    back(host_.chosen_ids, device_.chosen_ids);
    back(host_.chosen_weights, device_.chosen_weights);
    std::int64_t counted[3] = {};
    cuda::copy_to_host(counted, device_.counters.data, sizeof counted, stream_.get());
    stream_.synchronize();
    return {.bad_expert_ids = counted[0],
            .non_finite_weights = counted[1],
            .non_finite_logits = counted[2]};
  }

 private:
  std::byte* allocate(std::size_t bytes) { return owned_.emplace_back(context_, bytes).data(); }
  void* in(ConstTensorView host) {
    if (!host) return nullptr;
    std::byte* to = allocate(static_cast<std::size_t>(host.bytes()));
    cuda::copy_to_device(to, host.data, static_cast<std::size_t>(host.bytes()), stream_.get());
    return to;
  }
  void* out(TensorView host) {
    return host ? allocate(static_cast<std::size_t>(host.bytes())) : nullptr;
  }
  void back(TensorView host, TensorView device) const {
    if (host)
      cuda::copy_to_host(host.data, device.data, static_cast<std::size_t>(host.bytes()),
                         stream_.get());
  }

  cuda::Context context_;
  cuda::Stream stream_;
  MoeBuffers host_, device_;
  std::vector<DeviceBuffer> owned_;
};

}  // namespace

Tensor router_logits(const MoeWeights& weights, ConstTensorView tokens) {
  using grouped_gemm::padded_columns;
  const grouped_gemm::CpuGemm gemm(weights.router.view(), {});
  const std::int64_t count = tokens.shape[0], width = tokens.shape[1],
                     stride = padded_columns(width), scores = weights.router.shape()[0];
  Tensor x = Tensor::zeros(DType::f32, {count, stride});
  Tensor y(DType::f32, {count, scores});
  for (std::int64_t t = 0; t < count; ++t)
    formats::load_run(tokens.dtype, tokens.data, t * width, width, x.as<float>() + t * stride);
  ThreadPool pool(usable_cores());
  const auto body = [&](std::int64_t task, int) {
    gemm.run(0, task, {.f32 = {x.as<float>(), stride}, .fixed = {}, .index = nullptr}, count,
             y.as<float>());
  };
  pool.parallel_for(gemm.tasks(), body);
  if (weights.router_bias)
    for (std::int64_t i = 0; i < count * scores; ++i)
      y.as<float>()[i] += weights.router_bias.as<float>()[i % scores];
  return y;
}

void run_gpu(const GpuLayer& layer, const GpuPlan& plan, const MoeBuffers& buffers,
             cuda::CUstream stream, int launches) {
  Call(layer, plan, buffers, stream).enqueue(launches);
}

MoeCounters run_gpu_from_host(const GpuLayer& layer, const GpuPlan& plan,
                              const MoeBuffers& buffers) {
  const cuda::Current current(layer.context());
  Mirror mirror(layer, plan, buffers);
  run_gpu(layer, plan, mirror.buffers(), mirror.stream());
  return mirror.fetch();
}

}  // namespace switchyard::moe
