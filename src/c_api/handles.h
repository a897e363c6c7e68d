#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "switchyard/c_api.h"
#include "switchyard/checkpoint.h"
#include "switchyard/moe.h"

/// What is behind the handles of c_api.h.

struct SwitchyardConfig {
  switchyard::MoeConfig config;
  std::string line;
};

struct SwitchyardWeights {
  switchyard::MoeWeights weights;
  /// A tensor's shape while somebody looks at it through switchyard_weights_get().
  mutable std::int64_t viewed_shape[switchyard::Shape::kMaxRank] = {};
};

struct SwitchyardCheckpoint {
  switchyard::Checkpoint checkpoint;
  struct Formats {
    std::string gate_up, down;
  };
  std::vector<Formats> formats;  ///< of each layer
};

struct SwitchyardLayer {
  switchyard::MoeLayer layer;
  switchyard::Device device;
};

struct SwitchyardPlan {
  switchyard::MoePlan plan;
  switchyard::Device device;
};

namespace switchyard::c_api {

/// A handle for `config`; the line takes its weight format from `format`.
SwitchyardConfig* new_config(MoeConfig config, const WeightFormat& format);

/// "experts.gate_up", ...; throws InvalidArgument for other names.
const ExpertMatrix& matrix_named(const MoeWeights& weights, std::string_view name);

}  // namespace switchyard::c_api
