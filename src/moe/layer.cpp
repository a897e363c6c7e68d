#include "base/check.h"
#include "moe/plan.h"

namespace switchyard {

MoeLayer::MoeLayer(MoeConfig config, MoeWeights&& weights, Device device) {
  require(device.threads >= 0, "[moe] device: expected 0 threads (one per core) or more, got {}.",
          device.threads);
  moe::validate(config, weights);
  auto state = std::make_shared<MoeState>();
  if (device.kind == DeviceKind::cuda) {
    state->gpu = std::make_unique<moe::GpuLayer>(config, weights, device.ordinal);
    state->weights.router = std::move(weights.router);
    state->weights.router_bias = std::move(weights.router_bias);
  } else {
    if (device.threads == 0) device.threads = usable_cores();
    state->pool = std::make_unique<ThreadPool>(device.threads);
    state->weights = std::move(weights);
  }
  state->config = std::move(config);
  state->device = device;
  state_ = std::move(state);
}

const MoeConfig& MoeLayer::config() const noexcept {
  return state_->config;
}

MoePlan MoeLayer::plan(int max_tokens) const {
  MoePlan plan;
  plan.layer_ = state_;
  plan.plan_ = std::make_shared<const PlanState>(moe::make_plan(*state_, max_tokens));
  return plan;
}

int MoePlan::max_tokens() const noexcept {
  return static_cast<int>(plan_->max_tokens);
}

std::size_t MoePlan::workspace_bytes() const noexcept {
  return plan_->workspace_bytes;
}

std::string MoePlan::explain() const {
  std::string device = to_string(layer_->device);
  if (layer_->gpu) device += ", " + to_string(layer_->gpu->context().info());
  return moe::explain(device, *plan_);
}

MoeCounters MoePlan::run(const MoeBuffers& buffers) const {
  moe::check_arguments(*layer_, *plan_, buffers, moe::Memory::host);
  if (buffers.tokens.shape[0] == 0) return {};
  if (layer_->gpu) {
    MoeBuffers routed = buffers;
    Tensor logits;
    if (!buffers.expert_ids && !buffers.router_logits) {
      logits = moe::router_logits(layer_->weights, buffers.tokens);
      routed.router_logits = std::as_const(logits).view();
    }
    return moe::run_gpu_from_host(*layer_->gpu, *plan_->gpu, routed);
  }
  return moe::run_cpu(*layer_, *plan_, buffers);
}

void MoePlan::enqueue(const MoeBuffers& buffers, Stream stream) const {
  require(layer_->gpu != nullptr,
          "[moe.enqueue] device: expected a layer on a GPU, got one on {}. Use run().",
          to_string(layer_->device));
  moe::check_arguments(*layer_, *plan_, buffers, moe::Memory::device);
  if (buffers.tokens.shape[0] == 0) return;
  moe::run_gpu(*layer_->gpu, *plan_->gpu, buffers, static_cast<cuda::CUstream>(stream.handle));
}

}  // namespace switchyard
