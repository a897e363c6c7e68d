// The layer on a CPU: the steps of plan.cpp over slices of the caller's workspace. Nothing is
// allocated. Every element is computed by one thread in one order, so the number of threads
// changes no bit.

#include <atomic>
#include <cmath>
#include <memory_resource>

#include "base/check.h"
#include "formats/convert.h"
#include "moe/parallel.h"
#include "moe/plan.h"
#include "ops/route/problem.h"

namespace switchyard::moe {
namespace {

using grouped_gemm::CpuGemm;
using grouped_gemm::pad_row;
using grouped_gemm::padded_columns;

route::Problem routing_problem(const MoeState& layer) {
  return {.tokens = 1,
          .experts = layer.config.experts,
          .top_k = layer.config.top_k,
          .routing = layer.config.routing};
}

/// Scratch of one thread that routes: logits and weights in f64, then the router's own.
struct RouteScratch {
  std::span<double> logits, weights;
  std::span<std::byte> rest;

  RouteScratch(const MoeState& layer, std::span<std::byte> memory) {
    const auto scores = static_cast<std::size_t>(layer.scores());
    const auto top_k = static_cast<std::size_t>(layer.config.top_k);
    double* numbers = reinterpret_cast<double*>(memory.data());
    logits = {numbers, scores};
    weights = {numbers + scores, top_k};
    rest = memory.subspan((scores + top_k) * sizeof(double));
  }
};

class Run {
 public:
  Run(const MoeState& layer, const PlanState& plan, const MoeBuffers& buffers)
      : layer_(layer),
        plan_(plan),
        buffers_(buffers),
        config_(layer.config),
        weights_(layer.weights),
        tokens_(buffers.tokens.shape[0]),
        width_(config_.expert_width()),
        columns_(padded_columns(width_)) {}

  MoeCounters all() {
    load_tokens();
    if (buffers_.expert_ids) {
      copy_routing();
    } else {
      route();
    }
    publish_routing();
    run_routed();
    if (weights_.shared.gate_up) run_shared();
    store_result();
    return counters_;
  }

 private:
  template <class T>
  T* at(Slice slice) const {
    return slice.in<T>(buffers_.workspace);
  }
  std::int64_t token_stride() const { return padded_columns(config_.hidden); }
  std::int64_t result_stride() const { return weights_.latent_up ? config_.hidden : columns_; }

  void load_tokens() {
    float* to = at<float>(plan_.tokens);
    for_each(*layer_.pool, tokens_, config_.hidden, [&](std::int64_t t) {
      float* row = to + t * token_stride();
      formats::load_run(buffers_.tokens.dtype, buffers_.tokens.data, t * config_.hidden,
                        config_.hidden, row);
      pad_row(row, config_.hidden);
    });
    if (weights_.latent_down)
      project(plan_.latent_down, to, token_stride(), at<float>(plan_.latent));
  }

  void project(const CpuGemm& gemm, const float* x, std::int64_t stride, float* y) {
    const auto body = [&](std::int64_t task, int) {
      gemm.run(0, task, {.f32 = {x, stride}, .fixed = {}, .index = nullptr}, tokens_, y);
    };
    layer_.pool->parallel_for(gemm.tasks(), body);
  }

  void copy_routing() {
    const std::int32_t* given = buffers_.expert_ids.as<std::int32_t>();
    const float* given_weights = buffers_.expert_weights.as<float>();
    std::int32_t* ids = at<std::int32_t>(plan_.ids);
    float* weights = at<float>(plan_.weights);
    for (std::int64_t i = 0; i < tokens_ * config_.top_k; ++i) {
      const bool bad = given[i] < -1 || given[i] >= layer_.scores();
      counters_.bad_expert_ids += bad ? 1 : 0;
      ids[i] = bad ? -1 : given[i];
      weights[i] = given_weights[i];
    }
  }

  ConstTensorView logits() {
    if (buffers_.router_logits) return buffers_.router_logits;
    float* logits = at<float>(plan_.logits);
    project(plan_.router, at<float>(plan_.tokens), token_stride(), logits);
    const std::int64_t scores = layer_.scores();
    if (weights_.router_bias) {
      const float* bias = weights_.router_bias.as<float>();
      for (std::int64_t i = 0; i < tokens_ * scores; ++i) logits[i] += bias[i % scores];
    }
    return {logits, DType::f32, {tokens_, scores}};
  }

  void route() {
    const ConstTensorView scores = logits();
    const auto part = static_cast<std::size_t>(route_scratch_bytes(layer_));
    std::atomic<std::int64_t> bad_ids = 0, bad_logits = 0;
    const auto token = [&](std::int64_t t, int slot) {
      const std::span<std::byte> memory = buffers_.workspace.subspan(
          static_cast<std::size_t>(plan_.route.offset) + static_cast<std::size_t>(slot) * part);
      const MoeCounters met = route_token(scores, t, memory.first(part));
      bad_ids += met.bad_expert_ids;
      bad_logits += met.non_finite_logits;
    };
    layer_.pool->parallel_for(tokens_, token);
    counters_.bad_expert_ids += bad_ids;
    counters_.non_finite_logits += bad_logits;
  }

  MoeCounters route_token(ConstTensorView scores, std::int64_t t, std::span<std::byte> memory) {
    const RouteScratch scratch(layer_, memory);
    const std::int64_t width = layer_.scores(), top_k = config_.top_k;
    formats::load_run(scores.dtype, scores.data, t * width, width, scratch.logits.data());
    route::Inputs inputs;
    inputs.logits = scratch.logits;
    inputs.first_token = t;
    if (weights_.correction_bias)
      inputs.correction_bias = {weights_.correction_bias.as<float>(),
                                static_cast<std::size_t>(width)};
    std::int64_t input_id = 0;
    if (config_.routing.method == RoutingMethod::hash) {
      const ConstTensorView& ids = buffers_.input_ids;
      input_id = ids.dtype == DType::i32 ? ids.as<std::int32_t>()[t] : ids.as<std::int64_t>()[t];
      inputs.input_ids = {&input_id, 1};
      inputs.hash_table = {weights_.hash_table.as<std::int32_t>(),
                           static_cast<std::size_t>(weights_.hash_table.shape().elements())};
    }
    std::pmr::monotonic_buffer_resource arena(scratch.rest.data(), scratch.rest.size());
    std::int32_t* ids = at<std::int32_t>(plan_.ids) + t * top_k;
    const MoeCounters met =
        route::reference_token(routing_problem(layer_), inputs, 0,
                               {ids, static_cast<std::size_t>(top_k)}, scratch.weights, arena);
    float* weights = at<float>(plan_.weights) + t * top_k;
    for (std::int64_t j = 0; j < top_k; ++j)
      weights[j] = static_cast<float>(scratch.weights[static_cast<std::size_t>(j)]);
    return met;
  }

  void publish_routing() {
    const std::int64_t slots = tokens_ * config_.top_k;
    const std::int32_t* ids = at<std::int32_t>(plan_.ids);
    const float* weights = at<float>(plan_.weights);
    for (std::int64_t i = 0; i < slots; ++i)
      counters_.non_finite_weights += ids[i] >= 0 && !std::isfinite(weights[i]) ? 1 : 0;
    if (buffers_.chosen_ids) std::copy_n(ids, slots, buffers_.chosen_ids.as<std::int32_t>());
    if (buffers_.chosen_weights) std::copy_n(weights, slots, buffers_.chosen_weights.as<float>());
  }

  void run_routed() {
    const float* router_weights = at<float>(plan_.weights);
    const Groups groups =
        group(config_, weights_.experts.gate_up.experts(), at<std::int32_t>(plan_.ids),
              router_weights, tokens_, plan_.group, buffers_.workspace);
    const float* v = at<float>(plan_.latent);
    const std::int64_t v_stride = weights_.latent_down ? width_ : token_stride();
    run_experts(plan_.experts,
                {.groups = &groups,
                 .tokens = tokens_,
                 .v = v,
                 .v_stride = v_stride,
                 .router_weights = router_weights},
                *layer_.pool, buffers_.workspace);
    for_each(*layer_.pool, tokens_, width_ * config_.top_k,
             [&](std::int64_t t) { finalize(groups, router_weights, v + t * v_stride, t); });
    if (weights_.latent_up)
      project(plan_.latent_up, at<float>(plan_.combined), columns_, at<float>(plan_.result));
  }

  void finalize(const Groups& groups, const float* router_weights, const float* v,
                std::int64_t t) const {
    float* y = at<float>(plan_.combined) + t * columns_;
    std::fill_n(y, columns_, 0.0F);
    for (std::int64_t slot = t * config_.top_k; slot < (t + 1) * config_.top_k; ++slot) {
      const std::int32_t row = groups.row_of_slot[slot];
      if (row == kZeroExpert) {
        for (std::int64_t i = 0; i < width_; ++i) y[i] += router_weights[slot] * v[i];
      } else if (row != kNoRow) {
        add_row(groups, row, router_weights[slot], y);
      }
    }
    if (weights_.latent_norm) normalize(y);
  }

  /// y += w (o + b); with fused alpha w is in o already, times the expert's factor.
  void add_row(const Groups& groups, std::int32_t row, float router_weight, float* y) const {
    const std::int32_t expert = expert_of_row(groups, row);
    const float* o = at<float>(plan_.experts.out) + row * width_;
    float weight = config_.router_weight_on_input ? 1.0F : router_weight;
    const float bias_weight = weight;
    if (config_.fused_alpha)
      weight = 1 / plan_.experts.alpha_factor[static_cast<std::size_t>(expert)];
    for (std::int64_t i = 0; i < width_; ++i) y[i] += weight * o[i];
    if (plan_.experts.down.bias == nullptr) return;
    const float* bias = plan_.experts.down.bias + expert * width_;
    for (std::int64_t i = 0; i < width_; ++i) y[i] += bias_weight * bias[i];
  }

  void normalize(float* y) const {
    double square = 0;
    for (std::int64_t i = 0; i < width_; ++i) square += static_cast<double>(y[i]) * y[i];
    const auto scale = static_cast<float>(
        1 / std::sqrt(square / static_cast<double>(width_) + config_.norm_epsilon));
    const float* gain = weights_.latent_norm.as<float>();
    for (std::int64_t i = 0; i < width_; ++i) y[i] *= scale * gain[i];
  }

  void run_shared() {
    const float* x = at<float>(plan_.tokens);
    run_experts(plan_.shared,
                {.groups = nullptr,
                 .tokens = tokens_,
                 .v = x,
                 .v_stride = token_stride(),
                 .router_weights = nullptr},
                *layer_.pool, buffers_.workspace);
    for_each(*layer_.pool, tokens_, config_.hidden, [&](std::int64_t t) {
      const float* o = at<float>(plan_.shared.out) + t * config_.hidden;
      const float* bias = plan_.shared.down.bias;
      float* to = at<float>(plan_.result) + t * result_stride();
      const float gate = weights_.shared_gate ? shared_gate(x + t * token_stride()) : 1.0F;
      for (std::int64_t i = 0; i < config_.hidden; ++i)
        to[i] += gate * (o[i] + (bias ? bias[i] : 0.0F));
    });
  }

  float shared_gate(const float* x) const {
    const float* gate = weights_.shared_gate.as<float>();
    double sum = 0;
    for (std::int64_t i = 0; i < config_.hidden; ++i) sum += static_cast<double>(gate[i]) * x[i];
    return static_cast<float>(1 / (1 + std::exp(-sum)));
  }

  void store_result() const {
    for_each(*layer_.pool, tokens_, config_.hidden, [&](std::int64_t t) {
      formats::store_run(buffers_.out.dtype, buffers_.out.data, t * config_.hidden, config_.hidden,
                         at<float>(plan_.result) + t * result_stride());
    });
  }

  const MoeState& layer_;
  const PlanState& plan_;
  const MoeBuffers& buffers_;
  const MoeConfig& config_;
  const MoeWeights& weights_;
  const std::int64_t tokens_, width_, columns_;
  MoeCounters counters_;
};

}  // namespace

std::int64_t route_scratch_bytes(const MoeState& layer) {
  const std::int64_t numbers = layer.scores() + layer.config.top_k;
  return round_up<std::int64_t>(numbers * 8 + route::scratch_bytes(routing_problem(layer)), 64);
}

MoeCounters run_cpu(const MoeState& layer, const PlanState& plan, const MoeBuffers& buffers) {
  return Run(layer, plan, buffers).all();
}

}  // namespace switchyard::moe
