#pragma once

#include <string>
#include <string_view>

#include "checkpoint/catalogue.h"
#include "checkpoint/model_config.h"
#include "switchyard/config.h"

namespace switchyard::checkpoint {

/// How a fused tensor [E, ., .] of gate and up is stored, where its shape does not tell.
enum class FusedOrder { rows, columns };             ///< [E, 2I, H] | [E, H, 2I]
enum class GateUpOrder { gate_first, interleaved };  ///< g0 g1 .. u0 u1 .. | g0 u0 g1 u1 ..

/// What a model family's config.json means.
struct Family {
  std::string_view name;
  std::string_view model_types;  ///< words, separated by blanks
  RoutingMethod routing;
  bool renormalize;  ///< if the config does not say (norm_topk_prob)
  ActivationKind activation;
  FusedOrder fused = FusedOrder::rows;
  GateUpOrder gate_up = GateUpOrder::gate_first;
  bool gate_bias_corrects = false;  ///< "gate.bias" is the correction bias, not the router's
};

/// By the config's model_type, else by tensors that only one family has.
/// Throws Unsupported, listing the families.
const Family& find_family(const ModelConfig& config, const LayerTensors& layer);

/// top_k, routing, activation and the rounding of inputs; shapes are left 0.
/// Throws InvalidArgument for a missing key, Unsupported for an activation we do not know.
MoeConfig base_config(const Family& family, const ModelConfig& config);

}  // namespace switchyard::checkpoint
