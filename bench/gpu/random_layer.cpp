#include "bench/gpu/random_layer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace switchyard::bench {
namespace {

constexpr std::size_t kTable = (std::size_t{1} << 21) - 9;

}  // namespace

Values::Values(std::uint64_t seed) : table_(kTable), random_(seed) {
  std::normal_distribution<float> normal;
  for (float& v : table_) v = normal(random_);
}

Tensor Values::tensor(const Shape& shape, float scale) {
  Tensor t(DType::bf16, shape);
  std::vector<std::uint16_t> scaled(kTable);
  for (std::size_t i = 0; i < kTable; ++i) {
    const float v = table_[i] * scale;
    std::uint32_t bits;
    std::memcpy(&bits, &v, 4);
    scaled[i] = static_cast<std::uint16_t>((bits + 0x8000U) >> 16U);
  }
  constexpr std::int64_t kRun = 8192;
  for (std::int64_t at = 0; at < shape.elements(); at += kRun)
    std::copy_n(scaled.begin() + static_cast<std::ptrdiff_t>(random_() % (kTable - kRun)),
                std::min(kRun, shape.elements() - at), t.as<std::uint16_t>() + at);
  return t;
}

Tensor Values::floats(const Shape& shape, float scale) {
  Tensor t(DType::f32, shape);
  std::normal_distribution<float> normal(0, scale);
  std::generate_n(t.as<float>(), shape.elements(), [&] { return normal(random_); });
  return t;
}

MoeWeights random_weights(const MoeProblem& p, Values& values) {
  const MoeConfig& c = p.config;
  const std::int64_t outputs = (c.activation.gated() ? 2 : 1) * c.intermediate;
  const auto scale = [](int in) { return 1 / std::sqrt(static_cast<float>(in)); };
  MoeWeights w;
  w.experts.gate_up.elements = values.tensor({c.experts, outputs, c.hidden}, scale(c.hidden));
  w.experts.down.elements =
      values.tensor({c.experts, c.hidden, c.intermediate}, scale(c.intermediate));
  if (p.bias) {
    w.experts.gate_up.bias = values.floats({c.experts, outputs}, 0.1F);
    w.experts.down.bias = values.floats({c.experts, c.hidden}, 0.1F);
  }
  const RoutingMethod method = c.routing.method;
  if (method == RoutingMethod::deepseek_v3 || method == RoutingMethod::sigmoid_bias ||
      method == RoutingMethod::sqrt_softplus_bias)
    w.correction_bias = values.floats({c.experts}, 0.01F);
  return w;
}

Tensor random_logits(const MoeProblem& p, int turn, Values& values) {
  constexpr float kChosen = 20;
  const int experts = p.config.experts, k = p.config.top_k;
  Tensor t = values.floats({p.tokens, experts}, 1.0F);
  for (int token = 0; token < p.tokens; ++token) {
    float* row = t.as<float>() + static_cast<std::int64_t>(token) * experts;
    const auto slot = [&](int first, int j) -> float& {
      return row[(static_cast<std::int64_t>(first) * k + j) % experts];
    };
    if (p.load == "zipf")
      for (int e = 0; e < experts; ++e) slot(turn, e) -= 1.2F * std::log1p(static_cast<float>(e));
    for (int j = 0; j < k; ++j) {
      if (p.load == "balanced") slot(turn + token, j) += kChosen;
      if (p.load == "hot") slot(turn, j) += kChosen;
    }
  }
  return t;
}

}  // namespace switchyard::bench
