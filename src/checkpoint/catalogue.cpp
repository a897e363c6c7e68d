#include "checkpoint/catalogue.h"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "base/check.h"
#include "checkpoint/safetensors.h"

namespace switchyard::checkpoint {
namespace {

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const noexcept {
    return std::hash<std::string_view>{}(text);
  }
};

enum class Missing { add, skip };

/// Finds the place of a tensor by its name. Names come sorted, more or less: the layer and the
/// leaf are mostly those of the name before, or the next.
class Finder {
 public:
  std::vector<LayerTensors>& layers() { return layers_; }

  struct Found {
    LayerTensors* layer;
    Leaf* leaf;
    Place* place;
    int expert;
  };

  std::optional<Found> find(std::string_view name, Missing missing) {
    std::string_view rest;
    if (layer_ < layers_.size() && name.starts_with(layers_[layer_].prefix) &&
        name.size() > layers_[layer_].prefix.size()) {
      rest = name.substr(layers_[layer_].prefix.size());
    } else {
      const std::optional<MoeName> parsed = parse_moe_name(name);
      if (!parsed || !find_layer(*parsed, missing)) return std::nullopt;
      rest = parsed->rest;
    }
    const LeafName leaf_name = parse_leaf_name(rest);
    LayerTensors& layer = layers_[layer_];
    if (!find_leaf(layer, leaf_name)) return std::nullopt;
    Leaf& leaf = layer.leaves[leaf_];
    const auto expert = static_cast<std::size_t>(std::max(0, leaf_name.expert));
    if (leaf.places.size() <= expert) leaf.places.resize(expert + 1);
    return Found{&layer, &leaf, &leaf.places[expert], leaf_name.expert};
  }

  /// Forgets the layers that `is_moe` denies.
  template <class Predicate>
  void keep(Predicate is_moe) {
    std::erase_if(layers_, [&](const LayerTensors& layer) { return !is_moe(layer); });
    numbers_.clear();
    for (std::size_t i = 0; i < layers_.size(); ++i) numbers_.emplace(layers_[i].prefix, i);
    layer_ = layers_.size();
  }

 private:
  bool find_layer(const MoeName& name, Missing missing) {
    const auto place = numbers_.find(name.prefix);
    if (place != numbers_.end()) {
      layer_ = place->second;
      return true;
    }
    if (missing == Missing::skip) return false;
    layer_ = layers_.size();
    numbers_.emplace(name.prefix, layer_);
    layers_.push_back(
        {std::string(name.prefix.substr(0, name.stem)), std::string(name.prefix), name.layer, {}});
    return true;
  }

  bool find_leaf(LayerTensors& layer, const LeafName& name) {
    const bool per_expert = name.expert >= 0;
    const std::size_t count = layer.leaves.size();
    for (std::size_t step = 0; step < count; ++step) {
      leaf_ = leaf_ + 1 < count ? leaf_ + 1 : 0;
      const Leaf& leaf = layer.leaves[leaf_];
      if (leaf.per_expert == per_expert && leaf.name == name.name) return true;
    }
    constexpr std::size_t kMaxLeaves = 4096;  // a dense or expert module has a few dozen
    if (count == kMaxLeaves) return false;
    leaf_ = count;
    layer.leaves.emplace_back();
    layer.leaves.back().name = name.name;
    layer.leaves.back().per_expert = per_expert;
    return true;
  }

  std::vector<LayerTensors> layers_;
  std::unordered_map<std::string, std::size_t, StringHash, std::equal_to<>> numbers_;
  std::size_t layer_ = 0, leaf_ = 0;
};

void place_tensor(const Finder::Found& found, const StoredTensor& tensor, int shard,
                  const std::string& file) {
  Leaf& leaf = *found.leaf;
  if (found.place->shard >= 0 && found.place->shard != shard) return;  // the index knows better
  *found.place = {shard, tensor.begin};
  if (!leaf.shaped) {
    leaf.type = tensor.type;
    leaf.shape = tensor.shape;
    leaf.shaped = true;
  }
  if (leaf.type == tensor.type && leaf.shape == tensor.shape) return;
  require(false,
          "[checkpoint] {}: tensor '{}': expected {} {} as the other experts have, got {} {}. "
          "Convert or download the checkpoint again.",
          file, tensor.name, name(leaf.type), to_string(leaf.shape), name(tensor.type),
          to_string(tensor.shape));
}

void check_all_found(const LayerTensors& layer, const std::vector<std::string>& shards) {
  for (const Leaf& leaf : layer.leaves)
    for (std::size_t e = 0; e < leaf.places.size(); ++e) {
      if (leaf.places[e].shard < 0 || leaf.places[e].begin >= 0) continue;
      require(false,
              "[checkpoint] {}: expected tensor '{}', which the index puts there, got a file "
              "without it. Download the shard and the index again.",
              shards[static_cast<std::size_t>(std::max(0, leaf.places[e].shard))],
              layer.full_name(leaf.name, leaf.per_expert, static_cast<int>(e)));
    }
}

/// Numbers of the shards that hold a tensor of a MoE layer.
std::vector<bool> wanted_shards(const std::vector<LayerTensors>& layers, std::size_t shards) {
  std::vector<bool> wanted(shards, false);
  for (const LayerTensors& layer : layers)
    for (const Leaf& leaf : layer.leaves)
      for (const Place& place : leaf.places)
        if (place.shard >= 0) wanted[static_cast<std::size_t>(place.shard)] = true;
  return wanted;
}

bool is_prediction(const LayerTensors& layer, int hidden_layers) {
  return layer.stem.starts_with("mtp.") || layer.stem.find(".mtp.") != std::string::npos ||
         (hidden_layers > 0 && layer.layer >= hidden_layers);
}

/// Of several towers with experts (a talker beside a thinker), the one with the most tensors.
std::string main_stem(const std::vector<LayerTensors>& layers) {
  std::map<std::string_view, std::size_t> sizes;
  for (const LayerTensors& layer : layers) ++sizes[layer.stem];
  const auto largest = std::max_element(sizes.begin(), sizes.end(),
                                        [](auto& a, auto& b) { return a.second < b.second; });
  return largest == sizes.end() ? std::string() : std::string(largest->first);
}

}  // namespace

std::int64_t Leaf::total_bytes() const noexcept {
  const auto present = std::count_if(places.begin(), places.end(),
                                     [](const Place& place) { return place.begin >= 0; });
  return bytes() * present;
}

const Leaf* LayerTensors::find(std::string_view leaf, bool per_expert) const noexcept {
  for (const Leaf& candidate : leaves)
    if (candidate.per_expert == per_expert && candidate.name == leaf) return &candidate;
  return nullptr;
}

std::string LayerTensors::full_name(std::string_view leaf, bool per_expert, int expert) const {
  if (!per_expert) return fmt::format("{}{}", prefix, leaf);
  return fmt::format("{}experts.{}.{}", prefix, expert, leaf);
}

bool LayerTensors::has_experts() const noexcept {
  return std::any_of(leaves.begin(), leaves.end(), [](const Leaf& leaf) {
    return leaf.per_expert || leaf.name.starts_with("experts.") ||
           leaf.name.starts_with("mlp1_weight");
  });
}

Catalogue catalogue(const Files& files, int hidden_layers) {
  Finder finder;
  const auto is_moe = [](const LayerTensors& layer) { return layer.has_experts(); };
  const bool indexed = !files.index.entries.empty();
  for (const Index::Entry& entry : files.index.entries)
    if (const auto found = finder.find(entry.tensor, Missing::add))
      found->place->shard = entry.shard;
  finder.keep(is_moe);
  const std::vector<bool> wanted = wanted_shards(finder.layers(), files.shards.size());
  for (std::size_t shard = 0; shard < files.shards.size(); ++shard) {
    if (indexed && !wanted[shard]) continue;
    const std::filesystem::path file = files.directory / files.shards[shard];
    require(std::filesystem::exists(file),
            "[checkpoint] {}: expected the shard that the index names, got no such file in {}. "
            "Download it.",
            files.shards[shard], files.directory.string());
    const Header header = read_header(file);
    for (const StoredTensor& tensor : header.tensors)
      if (const auto found = finder.find(tensor.name, indexed ? Missing::skip : Missing::add))
        place_tensor(*found, tensor, static_cast<int>(shard), files.shards[shard]);
  }
  finder.keep(is_moe);
  Catalogue result{files.directory, files.shards, {}, {}};
  for (LayerTensors& layer : finder.layers()) {
    check_all_found(layer, files.shards);
    const bool prediction = is_prediction(layer, hidden_layers);
    (prediction ? result.prediction : result.layers).push_back(std::move(layer));
  }
  const std::string stem = main_stem(result.layers);
  std::erase_if(result.layers, [&](const LayerTensors& layer) { return layer.stem != stem; });
  std::sort(result.layers.begin(), result.layers.end(),
            [](const LayerTensors& a, const LayerTensors& b) { return a.layer < b.layer; });
  return result;
}

}  // namespace switchyard::checkpoint
