#include "base/check.h"
#include "moe/plan.h"

namespace switchyard {

MoeLayer::MoeLayer(MoeConfig config, MoeWeights weights, Device device) {
  require(device.threads >= 0, "[moe] device: expected 0 threads (one per core) or more, got {}.",
          device.threads);
  moe::validate(config, weights);
  if (device.threads == 0) device.threads = usable_cores();
  auto state = std::make_shared<MoeState>();
  state->config = std::move(config);
  state->weights = std::move(weights);
  state->device = device;
  state->pool = std::make_unique<ThreadPool>(device.threads);
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
  return moe::explain(*layer_, *plan_);
}

MoeCounters MoePlan::run(const MoeBuffers& buffers) const {
  moe::check_arguments(*layer_, *plan_, buffers);
  if (buffers.tokens.shape[0] == 0) return {};
  return moe::run_cpu(*layer_, *plan_, buffers);
}

}  // namespace switchyard
