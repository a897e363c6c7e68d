#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/index.h"
#include "checkpoint/stored_type.h"
#include "switchyard/tensor.h"

namespace switchyard::checkpoint {

/// "model.layers.3.mlp.experts.17.gate_proj.weight", taken apart.
struct MoeName {
  std::string_view prefix;  ///< "model.layers.3.mlp."
  std::size_t stem = 0;     ///< the first 13 characters of it are "model.layers."
  int layer = 0;            ///< 3
  std::string_view rest;    ///< "experts.17.gate_proj.weight"
};

/// Empty unless the name may belong to a MoE layer. Dense MLPs look the same and are told apart
/// later, by their lack of experts.
std::optional<MoeName> parse_moe_name(std::string_view name);

/// "experts.17.gate_proj.weight" -> {17, "gate_proj.weight"}; {-1, rest} for what is not numbered.
struct LeafName {
  int expert = -1;
  std::string_view name;
};
LeafName parse_leaf_name(std::string_view rest);

/// Where a tensor's bytes are.
struct Place {
  int shard = -1;           ///< -1: the index does not name it
  std::int64_t begin = -1;  ///< -1: the index names it, its shard lacks it
};

/// All tensors of a layer that differ in nothing but the expert's number, or one that has none.
struct Leaf {
  std::string name;         ///< as in LeafName
  bool per_expert = false;  ///< the file has one for every expert
  StoredType type = StoredType::U8;
  Shape shape;
  bool shaped = false;        ///< type and shape are known
  std::vector<Place> places;  ///< by expert, or one

  std::int64_t bytes() const noexcept { return (shape.elements() * bits(type) + 7) / 8; }
  std::int64_t total_bytes() const noexcept;
};

/// The tensors of one MoE layer.
struct LayerTensors {
  std::string stem, prefix;  ///< "model.layers.", "model.layers.3.mlp."
  int layer = 0;
  std::vector<Leaf> leaves;

  const Leaf* find(std::string_view leaf, bool per_expert) const noexcept;
  /// The name as the file spells it.
  std::string full_name(std::string_view leaf, bool per_expert, int expert) const;
  bool has_experts() const noexcept;
};

/// The MoE tensors of a checkpoint: names, shapes and places.
struct Catalogue {
  std::filesystem::path directory;
  std::vector<std::string> shards;
  std::vector<LayerTensors> layers;      ///< ascending
  std::vector<LayerTensors> prediction;  ///< multi-token-prediction layers, kept apart
};

/// Reads the headers of the shards that hold MoE tensors. Layers from `hidden_layers` on and
/// those under "mtp." are prediction layers; 0 = not known.
/// Throws InvalidArgument, naming the shard that is missing or the tensor that it lacks.
Catalogue catalogue(const Files& files, int hidden_layers);

}  // namespace switchyard::checkpoint
