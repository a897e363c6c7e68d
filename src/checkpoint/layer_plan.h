#pragma once

#include <optional>
#include <string>

#include "checkpoint/families.h"
#include "checkpoint/projection.h"
#include "switchyard/config.h"

namespace switchyard::checkpoint {

/// The experts of a layer, or its shared expert.
struct ExpertsPlan {
  Projection gate_up, down;
};

/// What one MoE layer consists of: which tensors, how stored, and its mathematics.
struct LayerPlan {
  const LayerTensors* tensors = nullptr;
  MoeConfig config;  ///< of the whole layer
  ExpertsPlan experts;
  std::optional<ExpertsPlan> shared;
  const Leaf* shared_gate = nullptr;
  const Leaf* router = nullptr;
  const Leaf* router_bias = nullptr;
  const Leaf* correction_bias = nullptr;
  const Leaf* hash_table = nullptr;
  std::optional<Projection> latent_down, latent_up;
  const Leaf* latent_norm = nullptr;
};

/// Finds the layer's tensors by their names. `layer` must outlive the plan.
/// Throws InvalidArgument naming the tensor that is missing or does not fit, Unsupported for an
/// arrangement we do not know.
LayerPlan plan_layer(const LayerTensors& layer, const ModelConfig& config);

}  // namespace switchyard::checkpoint
