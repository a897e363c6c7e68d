#include "bench/gpu/random_layer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "formats/fp4.cuh"
#include "formats/fp8.cuh"
#include "switchyard/error.h"

namespace switchyard::bench {
namespace {

constexpr std::size_t kTable = (std::size_t{1} << 21) - 9;

/// Bytes of two E2M1 codes that are not zero.
std::vector<std::uint8_t> code_pairs() {
  std::vector<std::uint8_t> pairs;
  for (unsigned pair = 0; pair < 256; ++pair)
    if ((pair & 0x7U) != 0 && (pair & 0x70U) != 0) pairs.push_back(static_cast<std::uint8_t>(pair));
  return pairs;
}

/// The root of the mean square of decode(choice).
template <class Decode>
float mean_size(std::span<const std::uint8_t> choices, const Decode& decode) {
  float squares = 0;
  for (const std::uint8_t choice : choices) squares += decode(choice) * decode(choice);
  return std::sqrt(squares / static_cast<float>(choices.size()));
}

/// Weights of mean size `size`: codes and scales at random, nothing is quantised.
ExpertMatrix random_fp4(const WeightFormat& format, const Shape& shape, int parts, float size,
                        Values& values) {
  const std::vector<std::uint8_t> pairs = code_pairs();
  const float code_size = mean_size(pairs, [](std::uint8_t pair) {
    return formats::decode_e2m1(static_cast<uint8>(pair & 0xf));
  });
  ExpertMatrix m;
  m.format = format;
  m.elements = values.bytes(DType::f4_e2m1, shape, pairs);
  std::vector<std::uint8_t> scales;
  if (format.global_scale) {
    for (unsigned code = 0x30; code < 0x40; ++code)  // 0.5 to 1.875
      scales.push_back(static_cast<std::uint8_t>(code));
    const float factor = size / code_size / mean_size(scales, formats::decode_e4m3);
    m.global_scale = Tensor(DType::f32, {shape[0], parts});
    for (std::int64_t i = 0; i < shape[0] * parts; ++i)  // a little different, so that one that is
      m.global_scale.as<float>()[i] =                    // not its own is seen
          factor * (1 + 0.125F * static_cast<float>(i % 5 - 2));
  } else {
    const int exponent = 127 + static_cast<int>(std::lround(std::log2(size / code_size)));
    scales = {static_cast<std::uint8_t>(exponent - 1), static_cast<std::uint8_t>(exponent)};
  }
  m.scales = values.bytes(format.scale, {shape[0], shape[1], shape[2] / format.scale_cols}, scales);
  return m;
}

ExpertMatrix random_matrix(const WeightFormat& format, const Shape& shape, int parts,
                           Values& values) {
  const float size = 1 / std::sqrt(static_cast<float>(shape[2]));
  if (format == weight_format("nvfp4") || format == weight_format("mxfp4"))
    return random_fp4(format, shape, parts, size, values);
  if (format != weight_format("bf16"))
    throw InvalidArgument("[bench] format: expected bf16, nvfp4 or mxfp4, got " +
                          to_string(format) + ".");
  ExpertMatrix m;
  m.elements = values.tensor(shape, size);
  return m;
}

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
  fill(t, scaled);
  return t;
}

template <class T>
void Values::fill(Tensor& t, const std::vector<T>& table) {
  constexpr std::int64_t kRun = 8192;
  const std::int64_t count = t.bytes() / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t at = 0; at < count; at += kRun)
    std::copy_n(table.begin() + static_cast<std::ptrdiff_t>(random_() % (kTable - kRun)),
                std::min(kRun, count - at), t.as<T>() + at);
}

Tensor Values::bytes(DType type, const Shape& shape, std::span<const std::uint8_t> choices) {
  Tensor t(type, shape);
  std::vector<std::uint8_t> table(kTable);
  for (std::uint8_t& byte : table) byte = choices[random_() % choices.size()];
  fill(t, table);
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
  MoeWeights w;
  w.experts.gate_up =
      random_matrix(p.format, {c.experts, outputs, c.hidden}, c.activation.gated() ? 2 : 1, values);
  w.experts.down = random_matrix(p.format, {c.experts, c.hidden, c.intermediate}, 1, values);
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
