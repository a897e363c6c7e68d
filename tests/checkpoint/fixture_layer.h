#pragma once

#include <cmath>
#include <vector>

#include "formats/convert.h"
#include "switchyard/checkpoint.h"
#include "switchyard/weights.h"

// The experts of a loaded layer in plain f64 loops, given the routing: enough to tell whether every
// weight arrived where it belongs. (The layer itself is tested elsewhere.)
namespace switchyard::testing {

using Row = std::vector<double>;

inline Row numbers(const Tensor& tensor) {
  Row values(static_cast<std::size_t>(tensor.shape().elements()));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = formats::load(tensor.dtype(), tensor.data(), static_cast<std::int64_t>(i));
  return values;
}

/// w x, with w [out, in] starting at `at`.
inline Row multiply(const Row& w, std::size_t at, std::size_t out, const Row& x) {
  Row y(out, 0.0);
  for (std::size_t r = 0; r < out; ++r)
    for (std::size_t c = 0; c < x.size(); ++c) y[r] += w[at + r * x.size() + c] * x[c];
  return y;
}

inline double activate(const Activation& a, double g, double u) {
  const double limit = static_cast<double>(a.limit), alpha = static_cast<double>(a.alpha);
  switch (a.kind) {
    case ActivationKind::relu2:
      return u > 0 ? u * u : 0;
    case ActivationKind::swiglu_oai:
    case ActivationKind::swiglu_clamp: {
      const double gate = std::min(g, limit), up = std::min(std::max(u, -limit), limit);
      return gate / (1 + std::exp(-alpha * gate)) * (up + static_cast<double>(a.beta));
    }
    case ActivationKind::swiglu:
      return g / (1 + std::exp(-g)) * u;
    default:
      return std::nan("");
  }
}

/// One set of experts, decoded once.
struct DecodedExperts {
  Row gate_up, down, gate_up_bias, down_bias, factor, down_factor;
  std::size_t rows = 0, width = 0, out = 0;
  bool gated = true;
  Activation activation;

  DecodedExperts(const ExpertWeights& weights, const Activation& act) : activation(act) {
    gate_up = numbers(dequantize(weights.gate_up, DType::f64));
    down = numbers(dequantize(weights.down, DType::f64));
    if (weights.gate_up.bias) gate_up_bias = numbers(weights.gate_up.bias);
    if (weights.down.bias) down_bias = numbers(weights.down.bias);
    if (weights.gate_up.input_factor) factor = numbers(weights.gate_up.input_factor);
    if (weights.down.input_factor) down_factor = numbers(weights.down.input_factor);
    rows = static_cast<std::size_t>(weights.gate_up.out());
    width = static_cast<std::size_t>(weights.gate_up.in());
    out = static_cast<std::size_t>(weights.down.out());
    gated = act.gated();
  }

  Row run(std::size_t e, Row x) const {
    for (std::size_t i = 0; i < x.size() && !factor.empty(); ++i) x[i] *= factor[e * width + i];
    Row both = multiply(gate_up, e * rows * width, rows, x);
    for (std::size_t i = 0; i < rows && !gate_up_bias.empty(); ++i)
      both[i] += gate_up_bias[e * rows + i];
    const std::size_t inner = gated ? rows / 2 : rows;
    Row middle(inner);
    for (std::size_t i = 0; i < inner; ++i)
      middle[i] = activate(activation, both[i], both[gated ? inner + i : i]);
    for (std::size_t i = 0; i < inner && !down_factor.empty(); ++i)
      middle[i] *= down_factor[e * inner + i];
    Row y = multiply(down, e * out * inner, out, middle);
    for (std::size_t i = 0; i < out && !down_bias.empty(); ++i) y[i] += down_bias[e * out + i];
    return y;
  }
};

/// The layer's output [T, H] for tokens [T, H], ids [T, K] and weights [T, K].
/// `expert` answers the local number of an expert, or -1.
inline Row run_layer(const MoeConfig& config, const MoeWeights& weights, const Row& tokens,
                     const std::vector<int>& ids, const Row& routing) {
  const auto hidden = static_cast<std::size_t>(config.hidden);
  const auto width = static_cast<std::size_t>(config.expert_width());
  const auto k = static_cast<std::size_t>(config.top_k);
  const DecodedExperts experts(weights.experts, config.activation);
  Row out(tokens.size(), 0.0);
  for (std::size_t t = 0; t * hidden < tokens.size(); ++t) {
    const Row x(tokens.begin() + static_cast<std::ptrdiff_t>(t * hidden),
                tokens.begin() + static_cast<std::ptrdiff_t>((t + 1) * hidden));
    const Row latent =
        weights.latent_down ? multiply(numbers(weights.latent_down), 0, width, x) : x;
    Row sum(width, 0.0);
    for (std::size_t slot = 0; slot < k; ++slot) {
      int e = ids[t * k + slot];
      if (!config.expert_map.empty()) e = config.expert_map[static_cast<std::size_t>(e)];
      if (e < 0) continue;
      const double weight = routing[t * k + slot];
      Row input = latent;
      if (config.router_weight_on_input)
        for (double& value : input) value *= weight;
      const Row y = experts.run(static_cast<std::size_t>(e), input);
      for (std::size_t i = 0; i < width; ++i)
        sum[i] += (config.router_weight_on_input ? 1 : weight) * y[i];
    }
    if (weights.latent_up) sum = multiply(numbers(weights.latent_up), 0, hidden, sum);
    if (config.shared_intermediate > 0) {
      const Row y = DecodedExperts(weights.shared, config.activation).run(0, x);
      double gate = 1;
      if (weights.shared_gate)
        gate = 1 / (1 + std::exp(-multiply(numbers(weights.shared_gate), 0, 1, x)[0]));
      for (std::size_t i = 0; i < hidden; ++i) sum[i] += gate * y[i];
    }
    for (std::size_t i = 0; i < hidden; ++i) out[t * hidden + i] += sum[i];
  }
  return out;
}

}  // namespace switchyard::testing
