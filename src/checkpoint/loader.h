#pragma once

#include <cstdint>

#include "checkpoint/layer_plan.h"
#include "switchyard/checkpoint.h"

namespace switchyard::checkpoint {

/// Throws InvalidArgument unless the layer can be cut that way.
MoeConfig part_config(const LayerPlan& plan, const LoadOptions& options);

/// `bytes_read`, if given, receives the bytes that were copied out of the files.
MoeWeights load_layer(const LayerPlan& plan, const Catalogue& catalogue, const LoadOptions& options,
                      std::int64_t* bytes_read = nullptr);

}  // namespace switchyard::checkpoint
