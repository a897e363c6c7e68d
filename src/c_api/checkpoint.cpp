#include "switchyard/checkpoint.h"

#include <string>

#include "c_api/handles.h"
#include "c_api/status.h"

using namespace switchyard;
using namespace switchyard::c_api;

namespace {

LoadOptions options_of(const char* tp, const char* ep) {
  LoadOptions options;
  if (tp != nullptr) options.tp = parse_part(tp);
  if (ep != nullptr) options.ep = parse_part(ep);
  return options;
}

}  // namespace

extern "C" {

int switchyard_checkpoint_open(const char* directory, SwitchyardCheckpoint** checkpoint) {
  return guarded([&] {
    SwitchyardCheckpoint*& result = given(checkpoint, "checkpoint");
    Checkpoint opened = Checkpoint::open(&given(directory, "directory"));
    std::vector<SwitchyardCheckpoint::Formats> formats;
    for (const CheckpointLayer& layer : opened.layers())
      formats.push_back({.gate_up = to_string(layer.gate_up), .down = to_string(layer.down)});
    result =
        new SwitchyardCheckpoint{.checkpoint = std::move(opened), .formats = std::move(formats)};
  });
}

void switchyard_checkpoint_destroy(SwitchyardCheckpoint* checkpoint) {
  delete checkpoint;
}

int switchyard_checkpoint_info(const SwitchyardCheckpoint* checkpoint, const char** family,
                               int64_t* layers) {
  return guarded([&] {
    const Checkpoint& c = given(checkpoint, "checkpoint").checkpoint;
    given(family, "family") = c.family().c_str();
    given(layers, "layers") = static_cast<int64_t>(c.layers().size());
  });
}

int switchyard_checkpoint_layer(const SwitchyardCheckpoint* checkpoint, int64_t index,
                                SwitchyardCheckpointLayer* layer) {
  return guarded([&] {
    const auto& layers = given(checkpoint, "checkpoint").checkpoint.layers();
    require(index >= 0 && index < static_cast<int64_t>(layers.size()),
            "[checkpoint] index: expected one in [0, {}), got {}.", layers.size(), index);
    const auto i = static_cast<std::size_t>(index);
    given(layer, "layer") = {.layer = layers[i].layer,
                             .prefix = layers[i].prefix.c_str(),
                             .scheme = layers[i].scheme.c_str(),
                             .gate_up = checkpoint->formats[i].gate_up.c_str(),
                             .down = checkpoint->formats[i].down.c_str(),
                             .expert_bytes = layers[i].expert_bytes,
                             .other_bytes = layers[i].other_bytes};
  });
}

int switchyard_checkpoint_config(const SwitchyardCheckpoint* checkpoint, int layer, const char* tp,
                                 const char* ep, SwitchyardConfig** config) {
  return guarded([&] {
    const Checkpoint& c = given(checkpoint, "checkpoint").checkpoint;
    given(config, "config") =
        new_config(c.config(layer, options_of(tp, ep)), c.layer(layer).gate_up);
  });
}

int switchyard_checkpoint_load(const SwitchyardCheckpoint* checkpoint, int layer, const char* tp,
                               const char* ep, SwitchyardWeights** weights) {
  return guarded([&] {
    const Checkpoint& c = given(checkpoint, "checkpoint").checkpoint;
    SwitchyardWeights*& result = given(weights, "weights");
    MoeWeights loaded = c.load(layer, options_of(tp, ep));
    result = new SwitchyardWeights{.weights = std::move(loaded)};
  });
}
}
