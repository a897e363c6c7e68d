// One MoE layer for one token x [H], of the K (id, weight) pairs (e_j, w_j) that routing chose:
//
//   v    = latent_down . x, or x                               [L or H]
//   a_j  = Q1(v * factor1[e_j])                                (v * w_j with
//   router_weight_on_input) h_j  = activation(Wg[e_j] . a_j + bg, Wu[e_j] . a_j + bu)  [I] y    =
//   sum over j of w_j * (Wd[e_j] . Q2(h_j * factor2[e_j]) + bd) y   += w_j * v for zero experts,
//   e_j >= E out  = latent_up . rmsnorm(y), or y out += sigmoid(shared_gate . x) * shared(x)
//   (without the sigmoid if no gate)
//
// Q1 and Q2 round to ActivationFormat: nvfp4 and fp8 in either Rounding; bf16 and fp16, which only
// store a number more coarsely, in the honest one. Slots with id -1, ids of other ranks
// (expert_map) and non-finite weights are left out.
// fused_alpha: Q2(w_j f_j h_j), f_j = g[e_j] / max g, instead of w_j * ... Q2(h_j), and 1 / f_j
// after the second GEMM.
// dense: as the DenseGEMM family's alpha matrix [T, E] has it, a repeated id's last slot counts.

#include "moe/reference.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "formats/convert.h"
#include "moe/semantics.h"
#include "moe/values.h"
#include "ops/grouped_gemm/problem.h"
#include "ops/quantize/quantize.h"

namespace switchyard::moe {
namespace {

void round_rows(ActivationFormat format, std::optional<float> scale, std::size_t width,
                Values& rows) {
  const ops::ActivationRounding rounding{
      .format = format, .rows = 1, .cols = static_cast<std::int64_t>(width), .input_scale = scale};
  for (std::size_t at = 0; at < rows.size(); at += width)
    ops::round_activations(rounding, &rows[at], &rows[at]);
}

/// As kernels keep an expert's output until it is summed up: with 11 bits.
void round_output(Values& rows) {
  for (double& value : rows) {
    if (!std::isfinite(value)) continue;
    int exponent = 0;
    const double fraction = std::frexp(value, &exponent);
    value = std::ldexp(std::nearbyint(std::ldexp(fraction, 11)), exponent - 11);
  }
}

/// One (token, slot) pair of an expert.
struct Slot {
  std::size_t token;  // position in the tokens asked for
  double weight;
};

class Layer {
 public:
  Layer(const MoeConfig& config, const MoeWeights& weights, Rounding rounding)
      : config_(config), weights_(weights), rounding_(rounding) {}

  void store(std::size_t width, Values& rows) const {
    if (rounding_ == Rounding::honest)
      round_rows(storage_format(config_.act), std::nullopt, width, rows);
  }

  /// a = Q(rows * factor[expert])
  void gemm_input(const ExpertMatrix& matrix, std::int64_t expert, Values& rows) const {
    const auto width = static_cast<std::size_t>(matrix.in());
    if (matrix.input_factor) {
      const bool per_expert = matrix.input_factor.shape()[0] > 1;
      const float* factor =
          matrix.input_factor.as<float>() + (per_expert ? expert * matrix.in() : 0);
      for (std::size_t i = 0; i < rows.size(); ++i) rows[i] *= factor[i % width];
    }
    store(width, rows);
    const ActivationFormat format = input_format(config_.act, matrix);
    if (format != storage_format(config_.act))
      round_rows(format, static_input_scale(format, matrix), width, rows);
  }

  Values gemm(const ExpertMatrix& matrix, std::int64_t expert, const Values& rows,
              const Activation* activation) const {
    const std::size_t count = rows.size() / static_cast<std::size_t>(matrix.in());
    const std::vector<std::int32_t> experts(count, static_cast<std::int32_t>(expert));
    const bool gated = activation && activation->gated();
    Values y(count * static_cast<std::size_t>(gated ? matrix.out() / 2 : matrix.out()));
    grouped_gemm::reference(matrix, rows, experts, activation, y);
    return y;
  }

  /// y[slot.token] += the expert's weighted output, for all of its slots.
  void add_expert(const ExpertWeights& experts, std::int64_t expert, const std::vector<Slot>& slots,
                  const Values& v, Values& y) const {
    const auto in = static_cast<std::size_t>(experts.gate_up.in());
    const auto mid = static_cast<std::size_t>(experts.down.in());
    const auto out = static_cast<std::size_t>(experts.down.out());
    const bool on_input = config_.router_weight_on_input;
    Values rows;
    for (const Slot& slot : slots)
      for (std::size_t i = 0; i < in; ++i)
        rows.push_back(v[slot.token * in + i] * (on_input ? slot.weight : 1));
    gemm_input(experts.gate_up, expert, rows);
    Values h = gemm(experts.gate_up, expert, rows, &config_.activation);

    const double factor = config_.fused_alpha ? fused_alpha_factor(experts.down, expert) : 1;
    if (config_.fused_alpha)
      for (std::size_t i = 0; i < h.size(); ++i) h[i] *= slots[i / mid].weight * factor;
    gemm_input(experts.down, expert, h);
    Values o = gemm(experts.down, expert, h, nullptr);
    if (rounding_ == Rounding::honest) round_output(o);
    const float* bias = experts.down.bias ? experts.down.bias.as<float>() : nullptr;
    for (std::size_t i = 0; i < o.size(); ++i) {
      const Slot& slot = slots[i / out];
      const double b = bias ? bias[static_cast<std::size_t>(expert) * out + i % out] : 0;
      const double w = on_input ? 1 : slot.weight;
      y[slot.token * out + i % out] += config_.fused_alpha ? (o[i] - b) / factor + w * b : w * o[i];
    }
  }

  /// out += shared(x), gated if the config says so.
  void add_shared(const Values& x, std::size_t tokens, Values& out) const {
    const auto hidden = static_cast<std::size_t>(config_.hidden);
    std::vector<Slot> slots;
    for (std::size_t t = 0; t < tokens; ++t) {
      slots.push_back({t, 1});
      if (!weights_.shared_gate) continue;
      const Values gate = load(weights_.shared_gate);
      slots.back().weight = 1 / (1 + std::exp(-dot(gate.data(), &x[t * hidden], hidden)));
    }
    MoeConfig shared = config_;
    shared.router_weight_on_input = false;
    shared.fused_alpha = false;
    Layer(shared, weights_, rounding_).add_expert(weights_.shared, 0, slots, x, out);
  }

  void normalize(Values& y, std::size_t width) const {
    const Values gain = load(weights_.latent_norm);
    for (std::size_t at = 0; at < y.size(); at += width) {
      const double square = dot(&y[at], &y[at], width) / static_cast<double>(width);
      const double scale = 1 / std::sqrt(square + config_.norm_epsilon);
      for (std::size_t i = 0; i < width; ++i) y[at + i] *= scale * gain[i];
    }
  }

 private:
  const MoeConfig& config_;
  const MoeWeights& weights_;
  Rounding rounding_;
};

/// The slots of every expert of this rank, then of the zero experts.
struct Groups {
  std::vector<std::vector<Slot>> experts;  ///< by local expert
  std::vector<Slot> zero;
};

/// Where a global id lives: [0, local experts), or -1 for another rank.
int local_expert(const MoeConfig& config, int id) {
  if (config.expert_map.empty()) return id < config.experts ? id : 0;
  const auto at = static_cast<std::size_t>(id);
  return at < config.expert_map.size() ? config.expert_map[at] : 0;
}

bool overwritten(const std::int32_t* ids, int slot, int top_k) {
  return std::find(ids + slot + 1, ids + top_k, ids[slot]) != ids + top_k;
}

Groups group(const MoeConfig& config, std::int64_t local_experts, const Routed& routed,
             std::span<const std::int64_t> tokens) {
  Groups groups{.experts = std::vector<std::vector<Slot>>(static_cast<std::size_t>(local_experts)),
                .zero = {}};
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const std::int32_t* ids = &routed.ids[static_cast<std::size_t>(tokens[t] * config.top_k)];
    for (int j = 0; j < config.top_k; ++j) {
      const int id = ids[j];
      const double weight = routed.weights[static_cast<std::size_t>(tokens[t] * config.top_k + j)];
      const int local = id < 0 ? -1 : local_expert(config, id);
      if (local < 0 || !std::isfinite(weight)) continue;
      if (config.dense && overwritten(ids, j, config.top_k)) continue;
      if (id >= config.experts)
        groups.zero.push_back({t, weight});
      else
        groups.experts[static_cast<std::size_t>(local)].push_back({t, weight});
    }
  }
  return groups;
}

Values gather(ConstTensorView view, std::span<const std::int64_t> rows) {
  const std::int64_t width = view.shape[1];
  Values values;
  for (const std::int64_t row : rows) {
    const Values one = load(view, row * width, width);
    values.insert(values.end(), one.begin(), one.end());
  }
  return values;
}

}  // namespace

std::vector<double> reference_experts(const MoeConfig& config, const MoeWeights& weights,
                                      const MoeBuffers& inputs, const Routed& routed,
                                      Rounding rounding, std::span<const std::int64_t> tokens) {
  const Layer layer(config, weights, rounding);
  const auto width = static_cast<std::size_t>(config.expert_width());
  const Values x = gather(inputs.tokens, tokens);
  Values v = weights.latent_down ? project(x, weights.latent_down) : x;
  if (weights.latent_down) layer.store(width, v);

  Values y(tokens.size() * width);
  const std::int64_t local_experts = weights.experts.gate_up.experts();
  const Groups groups = group(config, local_experts, routed, tokens);
  for (std::size_t e = 0; e < groups.experts.size(); ++e)
    if (!groups.experts[e].empty())
      layer.add_expert(weights.experts, static_cast<std::int64_t>(e), groups.experts[e], v, y);
  for (const Slot& slot : groups.zero)
    for (std::size_t i = 0; i < width; ++i)
      y[slot.token * width + i] += slot.weight * v[slot.token * width + i];

  if (weights.latent_norm) layer.normalize(y, width);
  if (weights.latent_up) layer.store(width, y);
  Values out = weights.latent_up ? project(y, weights.latent_up) : y;
  if (weights.shared.gate_up) layer.add_shared(x, tokens.size(), out);
  return out;
}

Reference reference(const MoeConfig& config, const MoeWeights& weights, const MoeBuffers& inputs,
                    Rounding rounding) {
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(inputs.tokens.shape[0]));
  std::iota(tokens.begin(), tokens.end(), 0);
  Routed routed = reference_route(config, weights, inputs, rounding);
  Values out = reference_experts(config, weights, inputs, routed, rounding, tokens);
  return {std::move(routed), std::move(out)};
}

}  // namespace switchyard::moe
