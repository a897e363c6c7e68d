#include "moe/random_layer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "formats/fp4.cuh"
#include "formats/fp8.cuh"
#include "switchyard/error.h"

namespace switchyard::moe {
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
    throw Unsupported("[bench] format: random layers are bf16, nvfp4 or mxfp4, got " +
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

Tensor Values::runs(const Shape& shape) {
  Tensor t(DType::f32, shape);
  fill(t, table_);
  return t;
}

namespace {

ExpertWeights random_experts(const MoeProblem& p, int experts, int intermediate, Values& values) {
  const MoeConfig& c = p.config;
  const int parts = c.activation.gated() ? 2 : 1;
  const std::int64_t outputs = std::int64_t{parts} * intermediate;
  ExpertWeights w;
  w.gate_up = random_matrix(p.format, {experts, outputs, c.hidden}, parts, values);
  w.down = random_matrix(p.format, {experts, c.hidden, intermediate}, 1, values);
  if (p.bias) {
    w.gate_up.bias = values.floats({experts, outputs}, 0.1F);
    w.down.bias = values.floats({experts, c.hidden}, 0.1F);
  }
  return w;
}

}  // namespace

MoeWeights random_weights(const MoeProblem& p, int experts, Values& values) {
  const MoeConfig& c = p.config;
  MoeWeights w;
  w.experts = random_experts(p, experts, c.intermediate, values);
  if (c.shared_intermediate > 0) w.shared = random_experts(p, 1, c.shared_intermediate, values);
  if (c.shared_gate) w.shared_gate = values.floats({c.hidden}, 0.01F);
  const RoutingMethod method = c.routing.method;
  if (method == RoutingMethod::deepseek_v3 || method == RoutingMethod::sigmoid_bias ||
      method == RoutingMethod::sqrt_softplus_bias)
    w.correction_bias = values.floats({c.experts}, 0.01F);
  return w;
}

Tensor random_logits(const MoeProblem& p, int turn, Values& values) {
  Tensor t = values.floats({p.tokens, p.config.experts}, 1.0F);
  apply_load(t, p.load, p.config.top_k, turn);
  return t;
}

void apply_load(Tensor& logits, std::string_view load, int k, int turn) {
  constexpr float kChosen = 20;
  const std::int64_t tokens = logits.shape()[0], experts = logits.shape()[1];
  std::vector<float> rarer(static_cast<std::size_t>(experts));
  if (load == "zipf")
    for (std::int64_t e = 0; e < experts; ++e)
      rarer[static_cast<std::size_t>((std::int64_t{turn} * k + e) % experts)] =
          1.2F * std::log1p(static_cast<float>(e));
  for (std::int64_t token = 0; token < tokens; ++token) {
    float* row = logits.as<float>() + token * experts;
    for (std::int64_t e = 0; load == "zipf" && e < experts; ++e)
      row[e] -= rarer[static_cast<std::size_t>(e)];
    const std::int64_t first = (turn + (load == "balanced" ? token : 0)) * k;
    for (int j = 0; j < k && (load == "balanced" || load == "hot"); ++j)
      row[(first + j) % experts] += kChosen;
  }
}

}  // namespace switchyard::moe
