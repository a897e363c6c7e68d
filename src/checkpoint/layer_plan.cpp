#include "checkpoint/layer_plan.h"

#include <algorithm>

#include "base/check.h"

namespace switchyard::checkpoint {
namespace {

/// How experts are named. Fused names hold gate and up in one tensor.
struct ExpertNames {
  std::string_view gate, up, down;  ///< gate "" = no gate; up "" = fused with the gate
  std::string_view gate_bias, up_bias, down_bias;
  Holder holder;
};

// clang-format off
constexpr ExpertNames kExpertNames[] = {
    {"gate_proj", "up_proj", "down_proj", "gate_proj.bias", "up_proj.bias", "down_proj.bias", Holder::numbered},
    {"w1",        "w3",      "w2",        "w1.bias",        "w3.bias",      "w2.bias",        Holder::numbered},
    {"gate_up_proj", "",     "down_proj", "gate_up_proj.bias", "",          "down_proj.bias", Holder::numbered},
    {"",          "up_proj", "down_proj", "",               "up_proj.bias", "down_proj.bias", Holder::numbered},
    {"experts.gate_up_proj", "", "experts.down_proj",
     "experts.gate_up_proj_bias", "", "experts.down_proj_bias", Holder::fused},
    {"",          "experts.up_proj", "experts.down_proj",
     "", "experts.up_proj_bias", "experts.down_proj_bias", Holder::fused},
    {"mlp1_weight", "",      "mlp2_weight", "mlp1_bias",    "",             "mlp2_bias",      Holder::fused},
};
constexpr std::string_view kSharedPrefixes[] = {"shared_experts.", "shared_expert.", "shared_mlp."};
constexpr std::string_view kRouters[] = {"gate.weight", "router.weight", "router.classifier.weight",
                                         "gate.wg.weight"};
constexpr std::string_view kRouterBiases[] = {"router.bias", "gate.bias"};
constexpr std::string_view kCorrectionBiases[] = {
    "gate.e_score_correction_bias", "e_score_correction_bias", "router.e_score_correction_bias",
    "gate.expert_bias", "expert_bias", "moe_statics.e_score_correction_bias"};
constexpr std::string_view kLatentDown[] = {"routed_expert_down_proj", "fc1_latent_proj"};
constexpr std::string_view kLatentUp[] = {"routed_expert_up_proj", "fc2_latent_proj"};
// clang-format on

const Leaf* find_any(const LayerTensors& layer, auto&& names) {
  for (const std::string_view name : names)
    if (const Leaf* const leaf = layer.find(name, false); leaf && leaf->shaped) return leaf;
  return nullptr;
}

class Planner {
 public:
  Planner(const LayerTensors& layer, const ModelConfig& config)
      : layer_(layer), model_(config), family_(find_family(config, layer)) {}

  LayerPlan plan() {
    plan_.tensors = &layer_;
    plan_.config = base_config(family_, model_);
    find_router();
    find_latent();
    plan_.experts = find_experts();
    find_shared();
    fill_config();
    return std::move(plan_);
  }

 private:
  std::string full(const Leaf& leaf) const {
    return layer_.full_name(leaf.name, leaf.per_expert, 0);
  }

  void check_shape(const Leaf* leaf, const Shape& shape) const {
    require(!leaf || leaf->shape.elements() == shape.elements(),
            "[checkpoint] tensor '{}': expected {}, got {}. The checkpoint is damaged.",
            leaf ? full(*leaf) : "", to_string(shape), leaf ? to_string(leaf->shape) : "");
    if (leaf && !(leaf->type <= StoredType::BF16))
      throw Unsupported(fmt::format(
          "[checkpoint] tensor '{}': expected F32, BF16 or F16, got {}. Keep it unquantised.",
          full(*leaf), name(leaf->type)));
  }

  void find_router() {
    plan_.router = find_any(layer_, kRouters);
    require(plan_.router != nullptr,
            "[checkpoint] tensor '{}gate.weight': expected a router, got none under gate.weight, "
            "router.weight, router.classifier.weight or gate.wg.weight. Download the checkpoint "
            "again.",
            layer_.prefix);
    const Shape& shape = plan_.router->shape;
    require(shape.rank() == 2, "[checkpoint] tensor '{}': expected [experts, hidden], got {}.",
            full(*plan_.router), to_string(shape));
    check_shape(plan_.router, shape);
    const auto hidden = count(model_.language, {"hidden_size", "dim"});
    require(!hidden || *hidden == shape[1],
            "[checkpoint] tensor '{}': expected [experts, {}] by config.json's hidden_size, got "
            "{}. The config belongs to another checkpoint.",
            full(*plan_.router), hidden.value_or(0), to_string(shape));
    hidden_ = shape[1];
    width_ = hidden_;
    const Leaf* const bias = find_any(layer_, kRouterBiases);
    plan_.correction_bias = find_any(layer_, kCorrectionBiases);
    (family_.gate_bias_corrects ? plan_.correction_bias : plan_.router_bias) = bias;
    plan_.hash_table = layer_.find("gate.tid2eid", false);
    check_shape(plan_.router_bias, {shape[0]});
    check_shape(plan_.correction_bias, {shape[0]});
    const Leaf* const table = plan_.hash_table;
    if (!table) return;
    require(table->shape.rank() == 2 && table->shape[1] == plan_.config.top_k &&
                (table->type == StoredType::I32 || table->type == StoredType::I64),
            "[checkpoint] tensor '{}': expected I32 or I64 [vocabulary, {}], got {} {}.",
            full(*table), plan_.config.top_k, name(table->type), to_string(table->shape));
    plan_.config.routing.method = RoutingMethod::hash;
  }

  /// A projection of one matrix that is not an expert's.
  std::optional<Projection> find_single(auto&& names, std::int64_t out, std::int64_t in) const {
    for (const std::string_view base : names) {
      const MatrixName name{std::string(base), Holder::single, out, in, FusedOrder::rows};
      if (!has_matrix(layer_, name)) continue;
      Projection projection = empty_projection();
      add_part(projection, find_matrix(layer_, name, model_.quant), 0, 1, -1);
      return projection;
    }
    return std::nullopt;
  }

  void find_latent() {
    plan_.latent_down = find_single(kLatentDown, -1, hidden_);
    if (!plan_.latent_down) return;
    width_ = plan_.latent_down->out();
    plan_.latent_up = find_single(kLatentUp, hidden_, width_);
    require(plan_.latent_up.has_value(),
            "[checkpoint] tensor '{}{}.weight': expected the way back from the latent width, got "
            "no such tensor. Download the checkpoint again.",
            layer_.prefix,
            layer_.find("fc1_latent_proj.weight", false) ? kLatentUp[1] : kLatentUp[0]);
    plan_.latent_norm = layer_.find("routed_expert_norm.weight", false);
    check_shape(plan_.latent_norm, {width_});
  }

  Projection empty_projection() const {
    Projection projection;
    projection.layer = &layer_;
    projection.gptq_v2 = model_.quant.gptq_v2;
    projection.symmetric = false;
    return projection;
  }

  void add_part(Projection& projection, const StoredMatrix& matrix, std::int64_t first,
                std::int64_t step, std::int64_t rows) const {
    projection.parts.push_back({matrix, first, step, rows < 0 ? matrix.out : rows});
    projection.experts = matrix.experts;
    projection.rows = projection.parts.back().rows;
    projection.in = matrix.in;
    projection.symmetric = model_.quant.symmetric && matrix.scheme->encoding == Encoding::gptq;
  }

  const Leaf* find_bias(std::string_view name, Holder holder) const {
    const Leaf* const leaf = name.empty() ? nullptr : layer_.find(name, holder == Holder::numbered);
    return leaf && leaf->shaped ? leaf : nullptr;
  }

  void check_bias(const Leaf* leaf, const StoredMatrix& matrix) const {
    if (!leaf) return;
    const std::int64_t experts = matrix.holder == Holder::fused ? matrix.experts : 1;
    check_shape(leaf, {experts, matrix.out});
    check_complete(layer_, *leaf, matrix.experts);
  }

  /// `base` is put in front of every name: "shared_experts." or nothing.
  ExpertsPlan read_experts(const ExpertNames& names, std::string_view base, Holder holder) const {
    const auto matrix = [&](std::string_view name, std::int64_t out, std::int64_t in) {
      const MatrixName full_name{fmt::format("{}{}", base, name), holder, out, in, family_.fused};
      return find_matrix(layer_, full_name, model_.quant);
    };
    const std::int64_t width = base.empty() ? width_ : hidden_;
    ExpertsPlan plan{empty_projection(), empty_projection()};
    Projection& up = plan.gate_up;
    if (names.up.empty()) {
      const StoredMatrix both = matrix(names.gate, -1, width);
      require(both.out % 2 == 0, "[checkpoint] tensor '{}': expected gate and up, got {} rows.",
              full(*both.elements), both.out);
      const bool interleaved = family_.gate_up == GateUpOrder::interleaved;
      const std::int64_t rows = both.out / 2;
      add_part(up, both, 0, interleaved ? 2 : 1, rows);
      add_part(up, both, interleaved ? 1 : rows, interleaved ? 2 : 1, rows);
      up.bias[0] = up.bias[1] = find_bias(names.gate_bias, holder);
      check_bias(up.bias[0], both);
    } else {
      if (!names.gate.empty()) {
        add_part(up, matrix(names.gate, -1, width), 0, 1, -1);
        up.bias[0] = find_bias(fmt::format("{}{}", base, names.gate_bias), holder);
      }
      add_part(up, matrix(names.up, names.gate.empty() ? -1 : up.rows, width), 0, 1, -1);
      up.bias[up.parts.size() - 1] = find_bias(fmt::format("{}{}", base, names.up_bias), holder);
      require(up.parts.size() == 1 || !up.bias[0] == !up.bias[1],
              "[checkpoint] {}{}: expected a bias for gate and up, got one of them.", layer_.prefix,
              base);
      for (std::size_t i = 0; i < up.parts.size(); ++i) check_bias(up.bias[i], up.parts[i].matrix);
    }
    add_part(plan.down, matrix(names.down, width, up.rows), 0, 1, -1);
    plan.down.bias[0] = find_bias(fmt::format("{}{}", base, names.down_bias), holder);
    check_bias(plan.down.bias[0], plan.down.parts[0].matrix);
    require(plan.down.experts == up.experts,
            "[checkpoint] {}{}: expected down projections of {} experts, got {}. Download the "
            "checkpoint again.",
            layer_.prefix, base, up.experts, plan.down.experts);
    return plan;
  }

  /// The names whose tensors are there. `base` as in read_experts.
  const ExpertNames* find_names(std::string_view base, Holder holder) const {
    for (const ExpertNames& names : kExpertNames) {
      const bool single = holder == Holder::single;
      if (names.holder != (single ? Holder::numbered : holder)) continue;
      const std::string_view first = names.gate.empty() ? names.up : names.gate;
      const auto present = [&](std::string_view name) {
        return has_matrix(layer_, {fmt::format("{}{}", base, name), holder, -1, -1, {}});
      };
      if (present(first) || (!names.gate.empty() && !names.up.empty() && present(names.gate)))
        return &names;
    }
    return nullptr;
  }

  ExpertsPlan find_experts() const {
    for (const Holder holder : {Holder::numbered, Holder::fused})
      if (const ExpertNames* const names = find_names("", holder))
        return read_experts(*names, "", holder);
    std::string found;
    for (const Leaf& leaf : layer_.leaves)
      if (leaf.per_expert || leaf.name.starts_with("experts."))
        found += fmt::format("{}{}", found.empty() ? "" : ", ",
                             layer_.full_name(leaf.name, leaf.per_expert, 0));
    throw Unsupported(fmt::format(
        "[checkpoint] {}experts: no known names: looked for N.gate_proj/up_proj/down_proj, "
        "N.w1/w3/w2, gate_up_proj/down_proj with weight, weight_packed, qweight or blocks; found "
        "{}. Convert the checkpoint to one of these.",
        layer_.prefix, found));
  }

  void find_shared() {
    for (const std::string_view base : kSharedPrefixes)
      if (const ExpertNames* const names = find_names(base, Holder::single)) {
        plan_.shared = read_experts(*names, base, Holder::single);
        break;
      }
    plan_.shared_gate = layer_.find("shared_expert_gate.weight", false);
    check_shape(plan_.shared_gate, {hidden_});
  }

  void fill_config() {
    MoeConfig& config = plan_.config;
    const Projection& up = plan_.experts.gate_up;
    config.hidden = static_cast<int>(hidden_);
    config.latent = plan_.latent_down ? static_cast<int>(width_) : 0;
    config.intermediate = static_cast<int>(up.rows);
    config.experts = static_cast<int>(up.experts);
    const auto declared = count(model_.language, {"num_experts", "num_local_experts",
                                                  "n_routed_experts", "moe_num_experts"});
    const std::int64_t rows = plan_.router->shape[0];
    require(!declared || *declared == config.experts || *declared == rows,
            "[checkpoint] {}experts: expected {} experts by config.json, got {}. Download the "
            "checkpoint again.",
            layer_.prefix, declared.value_or(0), config.experts);
    require(rows == config.experts + config.routing.zero_experts,
            "[checkpoint] tensor '{}': expected {} rows (experts), got {}. Download the "
            "checkpoint again.",
            full(*plan_.router), config.experts + config.routing.zero_experts, rows);
    require(config.top_k <= rows,
            "[checkpoint] config.json: num_experts_per_tok: expected at most {} experts, got {}.",
            rows, config.top_k);
    require(config.activation.gated() == (up.parts.size() == 2),
            "[checkpoint] {}experts: expected experts {} a gate by config.json's activation, got "
            "the other kind. The config belongs to another checkpoint.",
            layer_.prefix, config.activation.gated() ? "with" : "without");
    if (plan_.shared) config.shared_intermediate = static_cast<int>(plan_.shared->gate_up.rows);
    config.shared_gate = plan_.shared && plan_.shared_gate;
    config.act = input_format(up, model_.quant, config.act);
  }

  const LayerTensors& layer_;
  const ModelConfig& model_;
  const Family& family_;
  LayerPlan plan_;
  std::int64_t hidden_ = 0, width_ = 0;
};

}  // namespace

LayerPlan plan_layer(const LayerTensors& layer, const ModelConfig& config) {
  return Planner(layer, config).plan();
}

}  // namespace switchyard::checkpoint
