#include <charconv>

#include "checkpoint/catalogue.h"

namespace switchyard::checkpoint {
namespace {

constexpr int kMaxLayers = 100'000, kMaxExperts = 65'536;

/// Modules that may hold a MoE. The last stands for tensors right under the layer.
constexpr std::string_view kModules[] = {
    "mlp.", "block_sparse_moe.", "feed_forward.", "ffn.", "mixer.", "moe."};
constexpr std::string_view kBare[] = {"experts.", "shared_experts.", "gate."};

/// Reads "17." off the front of `text`.
std::optional<int> take_number(std::string_view& text, int limit) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end == text.data() + text.size() || *end != '.') return std::nullopt;
  if (number < 0 || number >= limit || text.front() == '-') return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 1);
  return number;
}

/// Where the layer's number starts: behind "layers." (everyone) or "block." (gpt-oss's own).
std::size_t layer_number_at(std::string_view name) {
  constexpr std::string_view kLayers = "layers.", kBlock = "block.", kMtp = "mtp.";
  for (std::size_t at = name.find(kLayers); at != std::string_view::npos;
       at = name.find(kLayers, at + 1))
    if (at == 0 || name[at - 1] == '.') return at + kLayers.size();
  for (const std::string_view word : {kBlock, kMtp})
    if (name.starts_with(word)) return word.size();
  return std::string_view::npos;
}

}  // namespace

std::optional<MoeName> parse_moe_name(std::string_view name) {
  const std::size_t stem = layer_number_at(name);
  if (stem == std::string_view::npos) return std::nullopt;
  std::string_view rest = name.substr(stem);
  const std::optional<int> layer = take_number(rest, kMaxLayers);
  if (!layer) return std::nullopt;
  bool known = false;
  for (const std::string_view bare : kBare) known = known || rest.starts_with(bare);
  for (const std::string_view module : kModules) {
    if (known || !rest.starts_with(module)) continue;
    rest.remove_prefix(module.size());
    known = true;
  }
  if (!known || rest.empty()) return std::nullopt;
  return MoeName{name.substr(0, name.size() - rest.size()), stem, *layer, rest};
}

LeafName parse_leaf_name(std::string_view rest) {
  constexpr std::string_view kExperts = "experts.";
  if (!rest.starts_with(kExperts)) return {-1, rest};
  std::string_view leaf = rest.substr(kExperts.size());
  const std::optional<int> expert = take_number(leaf, kMaxExperts);
  if (!expert || leaf.empty()) return {-1, rest};
  return {*expert, leaf};
}

}  // namespace switchyard::checkpoint
