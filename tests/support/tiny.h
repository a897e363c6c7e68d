#pragma once

#include <algorithm>
#include <vector>

#include "moe/reference.h"
#include "switchyard/moe.h"

/// Layers that fit in a comment: f32 weights and tokens, ids and weights given or routed.
namespace switchyard::tiny {

inline Tensor floats(Shape shape, const std::vector<float>& values) {
  Tensor tensor(DType::f32, shape);
  std::copy(values.begin(), values.end(), tensor.as<float>());
  return tensor;
}

inline Tensor ints(Shape shape, const std::vector<std::int32_t>& values) {
  Tensor tensor(DType::i32, shape);
  std::copy(values.begin(), values.end(), tensor.as<std::int32_t>());
  return tensor;
}

inline ExpertMatrix matrix(Shape shape, const std::vector<float>& values) {
  ExpertMatrix m;
  m.format = weight_format("f32");
  m.elements = floats(shape, values);
  return m;
}

struct Layer {
  MoeConfig config;
  MoeWeights weights;
  Tensor tokens, ids, slot_weights;

  MoeBuffers inputs() const {
    MoeBuffers buffers;
    buffers.tokens = tokens.view();
    buffers.expert_ids = ids.view();
    buffers.expert_weights = slot_weights.view();
    buffers.out = {nullptr, DType::f32, {tokens.shape()[0], config.hidden}};
    return buffers;
  }
  moe::Reference run(moe::Rounding rounding = moe::Rounding::exact) const {
    return moe::reference(config, weights, inputs(), rounding);
  }
};

/// H = I = 1: gate weight 1, up weight 3, down weight 2 (times expert + 1), one token x.
inline Layer one_by_one(ActivationKind kind, float x, std::vector<std::int32_t> ids,
                        std::vector<float> slot_weights, int experts = 2) {
  Layer layer;
  layer.config.hidden = layer.config.intermediate = 1;
  layer.config.experts = experts;
  layer.config.top_k = static_cast<int>(ids.size());
  layer.config.activation = activation(kind);
  layer.config.act = ActivationFormat::f32;
  const bool gated = layer.config.activation.gated();
  std::vector<float> gate_up, down;
  for (int e = 0; e < experts; ++e) {
    gate_up.push_back(1);
    if (gated) gate_up.push_back(3);
    down.push_back(2.0F * static_cast<float>(e + 1));
  }
  layer.weights.experts.gate_up = matrix({experts, gated ? 2 : 1, 1}, gate_up);
  layer.weights.experts.down = matrix({experts, 1, 1}, down);
  layer.tokens = floats({1, 1}, {x});
  layer.ids = ints({1, layer.config.top_k}, ids);
  layer.slot_weights = floats({1, layer.config.top_k}, slot_weights);
  return layer;
}

}  // namespace switchyard::tiny
