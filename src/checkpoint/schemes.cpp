#include "checkpoint/schemes.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/check.h"
#include "base/math.h"
#include "checkpoint/scale_shapes.h"

namespace switchyard::checkpoint {
namespace {

using enum StoredType;

constexpr std::uint32_t set(auto... types) {
  return ((std::uint32_t{1} << static_cast<int>(types)) | ...);
}
bool contains(std::uint32_t set_of_types, StoredType type) {
  return (set_of_types >> static_cast<int>(type) & 1) != 0;
}

constexpr std::uint32_t kFloat = set(F32, BF16, F16), kE8M0 = set(U8, F8_E8M0), kByte = set(U8, I8);

// The first row whose elements and scales are there in a type it lists is the scheme.
// clang-format off
constexpr Scheme kSchemes[] = {
    // name                       elements        types             scales              types         encoding                group
    {"plain",                     "weight",       kFloat,           "",                 0,            Encoding::plain},
    {"modelopt nvfp4",            "weight",       kByte,            "weight_scale",     set(F8_E4M3), Encoding::pairs,        16,
     /*global=*/"weight_scale_2", "input_scale", /*inverse=*/false, "", "", "pre_quant_scale"},
    {"modelopt mxfp4",            "weight",       kByte,            "weight_scale",     kE8M0,        Encoding::pairs,        32,
     "", "input_scale"},
    {"modelopt int4 awq",         "weight",       kByte,            "weight_scale",     kFloat,       Encoding::row_pairs,    0,
     "", "input_scale", false, "", "", "pre_quant_scale"},
    {"w4afp8",                    "weight",       kByte,            "weight_scale_inv", kFloat,       Encoding::signed_pairs, 0,
     "", "input_scale"},
    {"deepseek mxfp4",            "weight",       kByte | set(F4),  "scale",            kE8M0,        Encoding::pairs,        32},
    {"mxfp8",                     "weight",       set(F8_E4M3),     "weight_scale",     kE8M0,        Encoding::plain,        32},
    {"fp8",                       "weight",       set(F8_E4M3),     "weight_scale",     kFloat,       Encoding::plain,        0,
     "", "input_scale"},
    {"fp8 block",                 "weight",       set(F8_E4M3),     "weight_scale_inv", kFloat | set(F8_E8M0), Encoding::plain, 0,
     "", "input_scale"},
    {"deepseek fp8 block",        "weight",       set(F8_E4M3),     "scale",            set(F8_E8M0, F32), Encoding::plain},
    {"mistral fp8",               "weight",       set(F8_E4M3),     "qscale_weight",    kFloat,       Encoding::plain,        0,
     "", "qscale_act"},
    {"compressed-tensors nvfp4",  "weight_packed", set(U8),         "weight_scale",     set(F8_E4M3), Encoding::pairs,        16,
     /*global=*/"weight_global_scale", "input_global_scale", /*inverse=*/true},
    {"compressed-tensors mxfp4",  "weight_packed", set(U8),         "weight_scale",     kE8M0,        Encoding::pairs,        32},
    {"compressed-tensors int4",   "weight_packed", set(I32),        "weight_scale",     kFloat,       Encoding::pairs,        0,
     "", "input_scale", false, /*zeros=*/"weight_zero_point", /*groups=*/"weight_g_idx"},
    {"gpt-oss mxfp4",             "blocks",       set(U8),          "scales",           kE8M0,        Encoding::pairs,        32},
    {"gptq",                      "qweight",      set(I32),         "scales",           kFloat,       Encoding::gptq,         0,
     "", "", false, /*zeros=*/"qzeros", /*groups=*/"g_idx"},
    {"awq",                       "qweight",      set(I32),         "scales",           kFloat,       Encoding::awq,          0,
     "", "", false, /*zeros=*/"qzeros"},
};
// clang-format on

/// The names that a key may have behind a base.
std::vector<std::string> spellings(const MatrixName& name, std::string_view key) {
  if (name.holder != Holder::fused) return {fmt::format("{}.{}", name.base, key)};
  std::vector<std::string> all = {fmt::format("{}_{}", name.base, key),
                                  fmt::format("{}.{}", name.base, key)};
  if (key == "weight") all.insert(all.begin(), name.base);
  // Qwen3-VL's FP8 files leave "weight" out of the scale's name.
  if (key == "weight_scale_inv" || key == "weight_scale")
    all.push_back(fmt::format("{}_{}", name.base, key.substr(7)));
  return all;
}

const Leaf* find_leaf(const LayerTensors& layer, const MatrixName& name, std::string_view key) {
  if (key.empty()) return nullptr;
  for (const std::string& leaf : spellings(name, key))
    if (const Leaf* const found = layer.find(leaf, name.holder == Holder::numbered);
        found && found->shaped)
      return found;
  return nullptr;
}

std::string missing_name(const LayerTensors& layer, const MatrixName& name, std::string_view key) {
  return layer.full_name(spellings(name, key).front(), name.holder == Holder::numbered, 0);
}

[[noreturn]] void refuse_unknown(const LayerTensors& layer, const MatrixName& name) {
  std::string looked_for;
  for (const Scheme& scheme : kSchemes) {
    const std::string keys =
        fmt::format("{}{}{}", scheme.elements, scheme.scales.empty() ? "" : "+", scheme.scales);
    if (looked_for.find(keys) == std::string::npos)
      looked_for += fmt::format("{}{}", looked_for.empty() ? "" : ", ", keys);
  }
  std::string found;
  for (const Leaf& leaf : layer.leaves)
    if (leaf.shaped && leaf.name.starts_with(name.base))
      found += fmt::format("{}{} ({})", found.empty() ? "" : ", ", leaf.name,
                           checkpoint::name(leaf.type));
  throw Unsupported(fmt::format(
      "[checkpoint] {}{}: no known quantisation scheme: looked for {}; found {}. Convert the "
      "checkpoint to one of these.",
      layer.prefix, name.base, looked_for, found.empty() ? "nothing" : found));
}

/// The scheme's elements are there; its scales are not, or not in a type that it lists.
[[noreturn]] void refuse_scales(const LayerTensors& layer, const MatrixName& name,
                                const Scheme& scheme) {
  const Leaf* const scales = find_leaf(layer, name, scheme.scales);
  require(scales != nullptr,
          "[checkpoint] tensor '{}': expected the scales of {}, got no such tensor. Download the "
          "checkpoint again.",
          missing_name(layer, name, scheme.scales), scheme.name);
  throw InvalidArgument(fmt::format(
      "[checkpoint] tensor '{}': expected scales as {} has them, got type {}. Convert the "
      "checkpoint again.",
      layer.full_name(scales->name, scales->per_expert, 0), scheme.name,
      checkpoint::name(scales->type)));
}

bool is_awq(const MatrixName& name, const Leaf& elements, const QuantConfig& quant) {
  if (elements.shape.rank() != 2) return false;
  const std::int64_t rows = elements.shape[0], cols = elements.shape[1];
  const auto fits = [&](std::int64_t out, std::int64_t in) {
    return (name.out < 0 || name.out == out) && (name.in < 0 || name.in == in);
  };
  const bool gptq = fits(cols, rows * 8), awq = fits(cols * 8, rows);
  return gptq == awq ? quant.method == "awq" : awq;
}

const Scheme& find_scheme(const LayerTensors& layer, const MatrixName& name,
                          const QuantConfig& quant) {
  const Scheme* incomplete = nullptr;
  for (const Scheme& scheme : kSchemes) {
    const Leaf* const elements = find_leaf(layer, name, scheme.elements);
    if (!elements || !contains(scheme.element_types, elements->type)) continue;
    if (scheme.encoding == Encoding::gptq && is_awq(name, *elements, quant)) continue;
    if (scheme.scales.empty()) return scheme;
    const Leaf* const scales = find_leaf(layer, name, scheme.scales);
    if (scales && contains(scheme.scale_types, scales->type)) return scheme;
    // A scheme whose scales are there in a wrong type explains more than one without.
    if (!incomplete || (scales && !find_leaf(layer, name, incomplete->scales)))
      incomplete = &scheme;
  }
  if (!incomplete) refuse_unknown(layer, name);
  refuse_scales(layer, name, *incomplete);
}

/// [out, in] of the elements tensor, without its expert extent.
struct Extents {
  std::int64_t rows, cols;
};

Extents stored_extents(const LayerTensors& layer, const MatrixName& name, const Leaf& leaf) {
  const int first = name.holder == Holder::fused ? 1 : 0;
  const int rank = leaf.shape.rank() - first;
  require(rank == 2 || (rank == 3 && name.holder == Holder::fused),
          "[checkpoint] tensor '{}': expected {} extents, got {}. Convert the checkpoint again.",
          layer.full_name(leaf.name, leaf.per_expert, 0), first + 2, to_string(leaf.shape));
  std::int64_t cols = leaf.shape[first + 1];
  if (rank == 3) cols *= leaf.shape[first + 2];  // gpt-oss: [E, out, in / 32, 16]
  return {leaf.shape[first], cols};
}

void set_extents(const LayerTensors& layer, const MatrixName& name, StoredMatrix& matrix) {
  const Extents stored = stored_extents(layer, name, *matrix.elements);
  const bool bytes = matrix.elements->type != F4;
  const std::int64_t packed = matrix.elements->type == I32 ? 8 : bytes ? 2 : 1;
  const auto orient = [&](bool columns) {
    Extents e = columns ? Extents{stored.cols, stored.rows} : stored;
    switch (matrix.scheme->encoding) {
      case Encoding::plain:
        break;
      case Encoding::pairs:
      case Encoding::signed_pairs:
        e.cols *= packed;
        break;
      case Encoding::gptq:
        e = {stored.cols, stored.rows * 8};
        break;
      case Encoding::awq:
        e = {stored.cols * 8, stored.rows};
        break;
      case Encoding::row_pairs:
        e.rows *= 2;
        break;
    }
    return e;
  };
  const auto fits = [&](Extents e) {
    return (name.out < 0 || name.out == e.rows) && (name.in < 0 || name.in == e.cols);
  };
  const bool may_turn = name.holder == Holder::fused && matrix.elements->shape.rank() == 3;
  const bool upright = fits(orient(false)), turned = may_turn && fits(orient(true));
  matrix.columns = upright == turned ? may_turn && name.fused == FusedOrder::columns : turned;
  const Extents e = orient(matrix.columns);
  require(fits(e),
          "[checkpoint] tensor '{}': expected out {} and in {}, got {} {}. The config and the "
          "weights do not belong together, or the checkpoint is damaged.",
          layer.full_name(matrix.elements->name, matrix.elements->per_expert, 0),
          name.out < 0 ? "any" : std::to_string(name.out),
          name.in < 0 ? "any" : std::to_string(name.in), checkpoint::name(matrix.elements->type),
          to_string(matrix.elements->shape));
  matrix.out = e.rows;
  matrix.in = e.cols;
  if (matrix.scheme->encoding == Encoding::gptq || matrix.scheme->encoding == Encoding::awq)
    matrix.columns = true;  // of the scales and zero points
}

/// As many as the highest number of any tensor says: a gap is then a missing tensor with a name.
std::int64_t numbered_experts(const LayerTensors& layer) {
  std::size_t experts = 0;
  for (const Leaf& leaf : layer.leaves)
    if (leaf.per_expert) experts = std::max(experts, leaf.places.size());
  return static_cast<std::int64_t>(experts);
}

}  // namespace

bool has_matrix(const LayerTensors& layer, const MatrixName& name) {
  return std::any_of(std::begin(kSchemes), std::end(kSchemes), [&](const Scheme& scheme) {
    return find_leaf(layer, name, scheme.elements) != nullptr;
  });
}

void check_complete(const LayerTensors& layer, const Leaf& leaf, std::int64_t experts) {
  if (!leaf.per_expert) return;
  for (std::int64_t e = 0; e < experts; ++e) {
    const auto i = static_cast<std::size_t>(e);
    if (i < leaf.places.size() && leaf.places[i].begin >= 0) continue;  // names cost time
    require(false,
            "[checkpoint] tensor '{}': expected one for each of {} experts, got none. Download the "
            "checkpoint again.",
            layer.full_name(leaf.name, true, static_cast<int>(e)), experts);
  }
}

StoredMatrix find_matrix(const LayerTensors& layer, const MatrixName& name,
                         const QuantConfig& quant) {
  StoredMatrix matrix;
  const Scheme& scheme = find_scheme(layer, name, quant);
  matrix.scheme = &scheme;
  matrix.holder = name.holder;
  matrix.elements = find_leaf(layer, name, scheme.elements);
  matrix.scales = find_leaf(layer, name, scheme.scales);
  matrix.global = find_leaf(layer, name, scheme.global);
  matrix.zeros = find_leaf(layer, name, scheme.zeros);
  matrix.groups = find_leaf(layer, name, scheme.groups);
  matrix.input_scale = find_leaf(layer, name, scheme.input_scale);
  matrix.input_factor = find_leaf(layer, name, scheme.input_factor);
  if (name.holder == Holder::numbered) matrix.experts = numbered_experts(layer);
  if (name.holder == Holder::fused && matrix.elements->shape.rank() > 0)
    matrix.experts = matrix.elements->shape[0];
  set_extents(layer, name, matrix);
  require(scheme.global.empty() || matrix.global,
          "[checkpoint] tensor '{}': expected the global scale of {}, got no such tensor. Download "
          "the checkpoint again.",
          missing_name(layer, name, scheme.global), scheme.name);
  require(scheme.encoding != Encoding::awq || matrix.zeros,
          "[checkpoint] tensor '{}': expected the zero points of awq, got no such tensor. Download "
          "the checkpoint again.",
          missing_name(layer, name, scheme.zeros));
  set_scale_block(layer, quant, matrix);
  check_other_shapes(layer, matrix);
  for (const Leaf* const leaf : {matrix.elements, matrix.scales, matrix.global, matrix.zeros,
                                 matrix.groups, matrix.input_scale, matrix.input_factor})
    if (leaf) check_complete(layer, *leaf, matrix.experts);
  return matrix;
}

}  // namespace switchyard::checkpoint
