#include "moe/plan.h"

#include <fmt/format.h>

#include "base/check.h"
#include "moe/gpu_picks.h"
#include "moe/semantics.h"

namespace switchyard::moe {
namespace {

using grouped_gemm::Choice;
using grouped_gemm::CpuGemm;
using grouped_gemm::padded_columns;

constexpr std::int64_t kF32 = 4;

class Planner {
 public:
  Planner(const MoeState& layer, std::int64_t tokens, Choice choice)
      : layer_(layer), config_(layer.config), weights_(layer.weights), choice_(choice) {
    plan_.max_tokens = tokens;
  }

  PlanState make() {
    inputs();
    routing();
    experts();
    combine();
    decline();
    plan_.workspace_bytes = static_cast<std::size_t>(arena_.bytes());
    return std::move(plan_);
  }

 private:
  std::int64_t tokens() const { return plan_.max_tokens; }
  std::int64_t slots() const { return tokens() * config_.top_k; }
  std::int64_t width() const { return config_.expert_width(); }

  void step(std::string op, std::string variant, std::int64_t bytes, std::int64_t flops,
            Slice out) {
    plan_.steps.push_back({std::move(op), std::move(variant), bytes, flops, out});
  }

  CpuGemm project(std::string_view name, const Tensor& matrix, Slice out) {
    const CpuGemm gemm(matrix.view(), choice_);
    step("gemm", fmt::format("{} {}: {}", name, to_string(matrix.shape()), gemm.variant()),
         matrix.bytes() + tokens() * (gemm.in() + gemm.out()) * kF32,
         2 * tokens() * gemm.in() * gemm.out(), out);
    return gemm;
  }

  void inputs() {
    plan_.tokens = arena_.take<float>(tokens() * padded_columns(config_.hidden));
    step("load", "tokens to f32", tokens() * config_.hidden * 2 * kF32, 0, plan_.tokens);
    plan_.latent = plan_.tokens;
    if (!weights_.latent_down) return;
    plan_.latent = arena_.take<float>(tokens() * config_.latent);
    plan_.latent_down = project("latent_down", weights_.latent_down, plan_.latent);
  }

  void routing() {
    const std::int64_t scores = layer_.scores();
    plan_.logits = arena_.take<float>(tokens() * scores);
    if (weights_.router) plan_.router = project("router", weights_.router, plan_.logits);
    plan_.ids = arena_.take<std::int32_t>(slots());
    plan_.weights = arena_.take<float>(slots());
    plan_.route = arena_.take<std::byte>(route_scratch_bytes(layer_) * layer_.pool->threads());
    step("route",
         fmt::format("{} f64, top {} of {}", name(config_.routing.method), config_.top_k, scores),
         tokens() * (scores + 2 * config_.top_k) * kF32, 0, plan_.ids);
    plan_.group = plan_groups(arena_, weights_.experts.gate_up.experts(), slots());
    step("group", "by expert, stable in (token, slot)", slots() * 4 * kF32, 0,
         plan_.group.token_of_row);
  }

  void experts() {
    const std::int64_t columns = padded_columns(width());
    plan_.combined = arena_.take<float>(tokens() * columns);
    plan_.result = plan_.combined;
    if (weights_.latent_up) plan_.result = arena_.take<float>(tokens() * config_.hidden);
    const std::int64_t top = arena_.top();
    plan_.experts = plan_experts(config_, weights_.experts, tokens(), slots(), choice_, "experts",
                                 arena_, plan_.steps);
    step("finalize", "slots in order", (slots() + tokens()) * width() * kF32, 2 * slots() * width(),
         plan_.combined);
    if (weights_.latent_up)
      plan_.latent_up = project("latent_up", weights_.latent_up, plan_.result);
    if (!weights_.shared.gate_up) return;
    // The routed experts' rows are summed up by now.
    arena_.rewind(top);
    MoeConfig shared = config_;
    shared.router_weight_on_input = false;
    shared.fused_alpha = false;
    plan_.shared = plan_experts(shared, weights_.shared, tokens(), tokens(), choice_, "shared",
                                arena_, plan_.steps);
  }

  void combine() {
    const bool shared = static_cast<bool>(weights_.shared.gate_up);
    step("store", shared ? "result + shared" : "result",
         tokens() * config_.hidden * (shared ? 3 : 2) * kF32, 0, plan_.result);
  }

  void decline_fixed(std::string_view name, const ExpertMatrix& matrix) {
    const bool full = input_format(config_.act, matrix) == ActivationFormat::f32;
    const auto precision = full ? grouped_gemm::Precision::f32 : grouped_gemm::Precision::bf16;
    if (const auto reason = fixed_declines(matrix, choice_.isa, precision))
      plan_.declined.push_back(fmt::format("fixed16 for {}: {}", name, *reason));
  }

  void decline() {
    const std::int64_t local = weights_.experts.gate_up.experts();
    plan_.declined.push_back(
        config_.dense
            ? std::string("dense_moe: asked for; the same sums come from the chosen experts alone, "
                          "because all others have weight 0")
            : fmt::format("dense_moe: reads all {} experts, grouped at most {}", local,
                          std::min(local, slots())));
    decline_fixed("experts gate_up", weights_.experts.gate_up);
    decline_fixed("experts down", weights_.experts.down);
    if (!weights_.shared.gate_up) return;
    decline_fixed("shared gate_up", weights_.shared.gate_up);
    decline_fixed("shared down", weights_.shared.down);
  }

  const MoeState& layer_;
  const MoeConfig& config_;
  const MoeWeights& weights_;
  Choice choice_;
  Arena arena_;
  PlanState plan_;
};

}  // namespace

PlanState plan_state(GpuPlan plan, int max_tokens) {
  PlanState state;
  state.max_tokens = max_tokens;
  state.workspace_bytes = plan.workspace_bytes;
  state.steps = plan.steps;
  state.declined = plan.declined;
  state.gpu = std::make_shared<const GpuPlan>(std::move(plan));
  return state;
}

void check_max_tokens(int max_tokens, int top_k) {
  require(max_tokens >= 0, "[moe.plan] max_tokens: expected 0 or more, got {}.", max_tokens);
  constexpr std::int64_t kMostSlots = (std::int64_t{1} << 31) - 1;
  const std::int64_t slots = static_cast<std::int64_t>(max_tokens) * top_k;
  require(slots <= kMostSlots,
          "[moe.plan] max_tokens: expected at most {} with top_k = {}, got {}. Plan for fewer "
          "tokens and run the batch in parts.",
          kMostSlots / top_k, top_k, max_tokens);
}

PlanState make_plan(const MoeState& layer, int max_tokens, Choice choice) {
  check_max_tokens(max_tokens, layer.config.top_k);
  if (!layer.gpu) return Planner(layer, max_tokens, choice).make();
  GpuPlan plan = tuned_plan(layer.gpu->shape(), max_tokens, layer.gpu->context().info());
  load(plan, *layer.gpu);
  return plan_state(std::move(plan), max_tokens);
}

}  // namespace switchyard::moe
