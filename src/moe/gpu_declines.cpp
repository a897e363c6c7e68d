// Which layers kernels serve, and why they do not serve the others.

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "base/math.h"
#include "moe/gpu_layer.h"
#include "moe/semantics.h"
#include "ops/dense_moe/plan.h"

namespace switchyard::moe {
namespace {

// Kernels know the activations by the same numbers.
static_assert(static_cast<int>(device::ActivationCode::identity) ==
              static_cast<int>(ActivationKind::identity));
static_assert(static_cast<int>(device::ActivationCode::swiglu) ==
              static_cast<int>(ActivationKind::swiglu));
static_assert(static_cast<int>(device::ActivationCode::situ) ==
              static_cast<int>(ActivationKind::situ));

/// Why kernels cannot have these four-bit weights.
std::optional<std::string> scales_decline(const ExpertMatrix& m) {
  const std::span<const std::uint8_t> scales(m.scales.as<std::uint8_t>(),
                                             static_cast<std::size_t>(m.scales.bytes()));
  if (m.format == weight_format("nvfp4")) {  // a sign, or NaN, would be lost
    if (std::ranges::any_of(scales, [](std::uint8_t scale) { return scale > 0x7e; }))
      return "weights: GPU kernels take nvfp4 scales from 0 to 448, got a negative one or NaN";
  } else if (m.format == weight_format("mxfp4")) {
    if (std::ranges::any_of(scales, [](std::uint8_t scale) { return scale == 0xff; }))
      return "weights: GPU kernels take no mxfp4 scale that is NaN";
  }
  return std::nullopt;
}

/// Why the dense GEMMs do not serve a layer whose activations are nvfp4, with the word for
/// programs.
std::optional<std::string> dense_declines(const MoeConfig& c, int locals) {
  using dense_moe::Reason;
  const auto decline = [](Reason reason, std::string_view text) {
    return fmt::format("{}: {}", dense_moe::name(reason), text);
  };
  if (c.activation != activation(ActivationKind::swiglu))
    return decline(Reason::activation_unsupported,
                   fmt::format("dense GEMMs have swiglu alone, got {}", name(c.activation.kind)));
  if (locals != c.experts || !c.expert_map.empty())
    return decline(Reason::topology_unsupported, "dense GEMMs need all experts on one rank");
  if (c.hidden % 16 != 0 || c.intermediate % 16 != 0)
    return decline(Reason::shape_unaligned,
                   fmt::format("dense GEMMs need h % 16 == 0 and i % 16 == 0, got h={} i={}",
                               c.hidden, c.intermediate));
  if (c.router_weight_on_input)
    return decline(Reason::layer_unsupported, "dense GEMMs apply router weights to the output");
  if (c.shared_intermediate > 0)
    return decline(Reason::layer_unsupported, "dense GEMMs have no shared expert");
  if (c.experts > dense_moe::kMaxAlphaExperts)
    return decline(Reason::shape_too_large, fmt::format("dense GEMMs have up to {} experts, got {}",
                                                        dense_moe::kMaxAlphaExperts, c.experts));
  return std::nullopt;
}

}  // namespace

std::optional<std::string> gpu_declines(const MoeConfig& config, const WeightFormat& format,
                                        int locals, GpuShape& shape) {
  const bool fp16 = format == weight_format("fp16");
  const Weights packed = format == weight_format("nvfp4")   ? Weights::nvfp4
                         : format == weight_format("mxfp4") ? Weights::mxfp4
                                                            : Weights::half;
  if (packed == Weights::half && !fp16 && format != weight_format("bf16"))
    return fmt::format("weights: GPU kernels take bf16, fp16, nvfp4 and mxfp4, got {}",
                       to_string(format));
  const bool dense = packed == Weights::nvfp4 && config.act == ActivationFormat::nvfp4;
  const auto act = fp16 ? ActivationFormat::fp16 : ActivationFormat::bf16;
  if (!dense && config.act != act)
    return fmt::format("act: with {} weights GPU kernels take {}, got {}", to_string(format),
                       name(act), name(config.act));
  if (config.latent > 0) return "latent: the projections have no GPU kernel";
  if (config.routing.zero_experts > 0) return "zero_experts: they have no GPU kernel";
  if (config.dense && !dense)
    return fmt::format(
        "{}: dense: GPU kernels of {} activations visit chosen experts alone, the "
        "sums are the same",
        dense_moe::name(dense_moe::Reason::quant_unsupported), name(config.act));
  if (dense)
    if (auto reason = dense_declines(config, locals)) return reason;
  if (config.shared_intermediate > 0 && config.router_weight_on_input)
    return "shared: a shared expert beside router weights on the input has no GPU kernel";
  shape = {.config = config,
           .locals = locals,
           .shared = ceil_div(config.shared_intermediate, config.intermediate),
           .half = fp16 ? Half::fp16 : Half::bf16,
           .weights = packed,
           .activation = static_cast<device::ActivationCode>(config.activation.kind),
           .bias = false,
           .dense = dense};
  return std::nullopt;
}

std::optional<std::string> gpu_declines(const MoeConfig& config, const MoeWeights& weights,
                                        GpuShape& shape) {
  const ExpertMatrix &gate_up = weights.experts.gate_up, &down = weights.experts.down;
  for (const ExpertMatrix* m : {&gate_up, &down, &weights.shared.gate_up, &weights.shared.down}) {
    if (!*m) continue;
    if (m->format != gate_up.format)
      return fmt::format(
          "weights: GPU kernels take one format for experts and shared expert, got {} and {}",
          to_string(gate_up.format), to_string(m->format));
    if (auto reason = scales_decline(*m)) return reason;
    if (m->input_factor || m->group_of_column)
      return "weights: factors and orders of input columns have no GPU kernel";
  }
  if (auto reason =
          gpu_declines(config, gate_up.format, static_cast<int>(gate_up.experts()), shape))
    return reason;
  shape.bias = gate_up.bias || down.bias || weights.shared.gate_up.bias || weights.shared.down.bias;
  if (shape.dense && shape.bias)
    return fmt::format("{}: dense GEMMs have no bias",
                       dense_moe::name(dense_moe::Reason::activation_unsupported));
  if (shape.dense && (!static_input_scale(ActivationFormat::nvfp4, gate_up) ||
                      !static_input_scale(ActivationFormat::nvfp4, down)))
    return fmt::format("{}: dense GEMMs need the checkpoint's input scales",
                       dense_moe::name(dense_moe::Reason::quant_unsupported));
  return std::nullopt;
}

}  // namespace switchyard::moe
