#include "checkpoint/other_tensors.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/check.h"
#include "base/file.h"
#include "checkpoint/matrix_reader.h"
#include "checkpoint/reads.h"
#include "checkpoint/safetensors.h"

namespace switchyard::checkpoint {
namespace {

constexpr std::string_view kScaleKeys[] = {"weight_scale", "weight_scale_inv", "scale", "scales",
                                           "qscale_weight"};
constexpr std::string_view kElementKeys[] = {"weight", "weight_packed", "qweight"};

bool is_routed(const std::set<std::string, std::less<>>& prefixes, std::string_view name) {
  const std::optional<MoeName> parsed = parse_moe_name(name);
  if (!parsed || !prefixes.contains(parsed->prefix)) return false;
  return parsed->rest.starts_with("experts.") || parsed->rest.starts_with("mlp1_") ||
         parsed->rest.starts_with("mlp2_");
}

/// The tensors BASE.KEY of one module.
using Groups = std::map<std::string, std::shared_ptr<LayerTensors>>;

bool has_key(const LayerTensors& group, std::string_view base, auto&& keys) {
  return std::any_of(std::begin(keys), std::end(keys), [&](std::string_view key) {
    return group.find(fmt::format("{}.{}", base, key), false) != nullptr;
  });
}

/// Replaces the tensors of quantised matrices by one decoded tensor, where the weights were.
void decode_groups(const Groups& groups, const QuantConfig& quant,
                   std::vector<std::vector<OtherTensor>>& shards) {
  std::set<std::string, std::less<>> dropped;
  for (const auto& [base, group] : groups) {
    if (!has_key(*group, base, kScaleKeys) || !has_key(*group, base, kElementKeys)) continue;
    OtherTensor decoded;
    decoded.name = base + ".weight";
    decoded.matrix = find_matrix(*group, {base, Holder::single, -1, -1, {}}, quant);
    decoded.shape = {decoded.matrix.out, decoded.matrix.in};
    decoded.group = group;
    for (const Leaf& leaf : group->leaves)
      if (!leaf.name.ends_with(".bias")) dropped.insert(leaf.name);
    const int shard = decoded.matrix.elements->places.front().shard;
    shards[static_cast<std::size_t>(shard)].push_back(std::move(decoded));
  }
  for (std::vector<OtherTensor>& tensors : shards)
    std::erase_if(tensors, [&](const OtherTensor& tensor) {
      return !tensor.group && dropped.contains(tensor.name);
    });
}

constexpr std::string_view kPythonWords[] = {"-Infinity", "Infinity", "NaN"};
constexpr std::string_view kMark = "switchyard keeps ";

void replace_all(std::string& text, const std::string& from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at))
    text.replace(at, from.size(), to);
}

}  // namespace

std::vector<std::vector<OtherTensor>> other_tensors(const Catalogue& catalogue,
                                                    const QuantConfig& quant) {
  std::set<std::string, std::less<>> prefixes, seen;
  for (const LayerTensors& layer : catalogue.layers) prefixes.insert(layer.prefix);
  std::vector<std::vector<OtherTensor>> shards(catalogue.shards.size());
  Groups groups;
  for (std::size_t shard = 0; shard < shards.size(); ++shard) {
    const Header header = read_header(catalogue.directory / catalogue.shards[shard]);
    for (const StoredTensor& tensor : header.tensors) {
      if (is_routed(prefixes, tensor.name) || !seen.emplace(tensor.name).second) continue;
      OtherTensor other;
      other.name = tensor.name;
      other.type = tensor.type;
      other.shape = tensor.shape;
      other.place = {static_cast<int>(shard), tensor.begin};
      const std::string base = other.name.substr(0, other.name.rfind('.'));
      std::shared_ptr<LayerTensors>& group = groups[base];
      if (!group) group = std::make_shared<LayerTensors>();
      Leaf& leaf = group->leaves.emplace_back();
      leaf.name = other.name;
      leaf.type = other.type;
      leaf.shape = other.shape;
      leaf.shaped = true;
      leaf.places = {other.place};
      shards[shard].push_back(std::move(other));
    }
  }
  decode_groups(groups, quant, shards);
  return shards;
}

void copy_tensor(const Catalogue& catalogue, const OtherTensor& tensor, TensorWriter& writer) {
  if (tensor.group) {
    Projection projection;
    projection.layer = tensor.group.get();
    projection.parts = {{tensor.matrix, 0, 1, tensor.matrix.out}};
    projection.experts = 1;
    projection.rows = tensor.matrix.out;
    projection.in = tensor.matrix.in;
    Reads reads;
    ExpertMatrix matrix;
    read_matrix(reads, projection, whole(projection), matrix);
    reads.run(catalogue.directory, catalogue.shards, {});
    const Tensor values = dequantize(matrix, DType::bf16);
    writer.write(values.data(), values.bytes());
    return;
  }
  constexpr std::int64_t kPiece = std::int64_t{8} << 20;
  const std::filesystem::path file =
      catalogue.directory / catalogue.shards[static_cast<std::size_t>(tensor.place.shard)];
  const std::int64_t bytes = (tensor.shape.elements() * bits(tensor.type) + 7) / 8;
  std::vector<std::byte> piece(static_cast<std::size_t>(std::min(bytes, kPiece)));
  for (std::int64_t at = 0; at < bytes; at += kPiece) {
    const auto count = static_cast<std::size_t>(std::min(kPiece, bytes - at));
    read_bytes(file, tensor.place.begin + at, std::span(piece).first(count));
    writer.write(piece.data(), static_cast<std::int64_t>(count));
  }
}

std::string with_quantisation(std::string_view config, std::string_view quantisation) {
  auto json = nlohmann::ordered_json::parse(
      replace_python_numbers(config, fmt::format("\"{}", kMark), "\""));
  const auto quant = nlohmann::ordered_json::parse(quantisation);
  for (auto& [key, value] : json.items())
    if (value.is_object()) value.erase("quantization_config");
  json.erase("quantization_config");
  if (!quant.is_null()) json["quantization_config"] = quant;
  std::string text = json.dump(2) + "\n";
  for (const std::string_view word : kPythonWords)
    replace_all(text, fmt::format("\"{}{}\"", kMark, word), word);
  return text;
}

}  // namespace switchyard::checkpoint
