#include "switchyard/checkpoint.h"

#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "base/file.h"
#include "checkpoint/state.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxConfigBytes = std::int64_t{64} << 20;

checkpoint::ModelConfig read_config(const fs::path& directory) {
  const fs::path config = directory / "config.json", quant = directory / "hf_quant_config.json";
  require(fs::exists(config),
          "[checkpoint] {}: expected config.json beside the weights, got none. Copy it there.",
          directory.string());
  return checkpoint::parse_model_config(
      read_text(config, kMaxConfigBytes),
      fs::exists(quant) ? read_text(quant, kMaxConfigBytes) : std::string());
}

std::int64_t leaf_bytes(const checkpoint::Leaf* leaf) {
  return leaf ? leaf->total_bytes() : 0;
}

CheckpointLayer describe(const checkpoint::LayerPlan& plan) {
  CheckpointLayer layer;
  const checkpoint::ExpertsPlan& experts = plan.experts;
  layer.layer = plan.tensors->layer;
  layer.prefix = plan.tensors->prefix;
  layer.scheme = scheme_name(experts.gate_up);
  if (const std::string down = scheme_name(experts.down); down != layer.scheme)
    layer.scheme += ", down " + down;
  layer.config = plan.config;
  layer.gate_up = format_of(experts.gate_up, experts.gate_up.rows);
  layer.down = format_of(experts.down, experts.down.rows);
  layer.expert_bytes = stored_bytes(experts.gate_up) + stored_bytes(experts.down);
  if (plan.shared)
    layer.other_bytes += stored_bytes(plan.shared->gate_up) + stored_bytes(plan.shared->down);
  for (const auto& projection : {plan.latent_down, plan.latent_up})
    if (projection) layer.other_bytes += stored_bytes(*projection);
  for (const checkpoint::Leaf* const leaf :
       {plan.shared_gate, plan.router, plan.router_bias, plan.correction_bias, plan.hash_table,
        plan.latent_norm})
    layer.other_bytes += leaf_bytes(leaf);
  return layer;
}

std::size_t position(const CheckpointState& state, int index) {
  const auto place =
      std::find_if(state.layers.begin(), state.layers.end(),
                   [&](const CheckpointLayer& layer) { return layer.layer == index; });
  if (place != state.layers.end()) return static_cast<std::size_t>(place - state.layers.begin());
  std::string all;
  for (const CheckpointLayer& layer : state.layers)
    all += fmt::format("{}{}", all.empty() ? "" : ", ", layer.layer);
  throw InvalidArgument(fmt::format(
      "[checkpoint] layer: expected one of {} (the layers with experts), got {}.", all, index));
}

}  // namespace

Part parse_part(std::string_view text) {
  Part part;
  const char* const end = text.data() + text.size();
  const auto rank = std::from_chars(text.data(), end, part.rank);
  bool good = rank.ec == std::errc{} && rank.ptr != end && *rank.ptr == '/';
  if (good) {
    const auto ranks = std::from_chars(rank.ptr + 1, end, part.ranks);
    good = ranks.ec == std::errc{} && ranks.ptr == end && part.rank >= 0 && part.rank < part.ranks;
  }
  require(good, "[checkpoint] part: expected RANK/RANKS with 0 <= RANK < RANKS, got '{}'.", text);
  return part;
}

std::shared_ptr<const CheckpointState> open_state(const fs::path& directory) {
  const checkpoint::Files files = checkpoint::find_files(directory);
  auto state = std::make_shared<CheckpointState>();
  state->config = read_config(files.directory);
  const int hidden_layers =
      checkpoint::count(state->config.language, {"num_hidden_layers", "n_layers", "num_layers"})
          .value_or(0);
  state->catalogue = checkpoint::catalogue(files, hidden_layers);
  require(!state->catalogue.layers.empty(),
          "[checkpoint] {}: expected tensors of a mixture of experts (layers.N.mlp.experts...), "
          "got none. Is this a dense model?",
          directory.string());
  state->family = find_family(state->config, state->catalogue.layers.front()).name;
  for (const checkpoint::LayerTensors& layer : state->catalogue.layers) {
    state->plans.push_back(plan_layer(layer, state->config));
    state->layers.push_back(describe(state->plans.back()));
  }
  return state;
}

Checkpoint Checkpoint::open(const fs::path& directory) {
  Checkpoint result;
  result.state_ = open_state(directory);
  return result;
}

const std::string& Checkpoint::family() const noexcept {
  return state_->family;
}

const std::vector<CheckpointLayer>& Checkpoint::layers() const noexcept {
  return state_->layers;
}

const CheckpointLayer& Checkpoint::layer(int index) const {
  return state_->layers[position(*state_, index)];
}

MoeConfig Checkpoint::config(int layer, const LoadOptions& options) const {
  return part_config(state_->plans[position(*state_, layer)], options);
}

MoeWeights Checkpoint::load(int layer, const LoadOptions& options) const {
  return load_layer(state_->plans[position(*state_, layer)], state_->catalogue, options);
}

}  // namespace switchyard
