#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/loader.h"
#include "switchyard/checkpoint.h"

namespace switchyard {

/// What an open checkpoint knows. The plans point into the catalogue.
struct CheckpointState {
  std::string family;
  checkpoint::ModelConfig config;
  checkpoint::Catalogue catalogue;
  std::vector<checkpoint::LayerPlan> plans;  ///< by position, as `layers`
  std::vector<CheckpointLayer> layers;
};

/// Checkpoint::open's work. The state must stay where it is: its plans point into it.
std::shared_ptr<const CheckpointState> open_state(const std::filesystem::path& directory);

}  // namespace switchyard
