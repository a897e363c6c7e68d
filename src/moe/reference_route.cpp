#include <cmath>

#include "formats/convert.h"
#include "moe/reference.h"
#include "moe/values.h"
#include "ops/route/problem.h"

namespace switchyard::moe {
namespace {

Routed given(const MoeConfig& config, const MoeBuffers& inputs) {
  Routed routed;
  const std::int64_t count = inputs.tokens.shape[0] * config.top_k;
  const int limit = config.experts + config.routing.zero_experts;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int32_t id = inputs.expert_ids.as<std::int32_t>()[i];
    const bool bad = id < -1 || id >= limit;
    routed.counters.bad_expert_ids += bad ? 1 : 0;
    routed.ids.push_back(bad ? -1 : id);
    routed.weights.push_back(inputs.expert_weights.as<float>()[i]);
  }
  return routed;
}

Values logits_of(const MoeWeights& weights, const MoeBuffers& inputs) {
  const ConstTensorView tokens = inputs.tokens;
  if (inputs.router_logits)
    return load(inputs.router_logits, 0, inputs.router_logits.shape.elements());
  Values logits = project(load(tokens, 0, tokens.shape.elements()), weights.router);
  if (weights.router_bias) {
    const Values bias = load(weights.router_bias);
    for (std::size_t i = 0; i < logits.size(); ++i) logits[i] += bias[i % bias.size()];
  }
  return logits;
}

}  // namespace

Routed reference_route(const MoeConfig& config, const MoeWeights& weights, const MoeBuffers& inputs,
                       Rounding rounding) {
  Routed routed;
  if (inputs.expert_ids) {
    routed = given(config, inputs);
  } else {
    const Values logits = logits_of(weights, inputs);
    const auto span_of = [](const Tensor& t, auto* data) {
      return std::span(data, t ? static_cast<std::size_t>(t.shape().elements()) : 0);
    };
    std::vector<std::int64_t> input_ids;
    for (std::int64_t t = 0; inputs.input_ids && t < inputs.tokens.shape[0]; ++t)
      input_ids.push_back(static_cast<std::int64_t>(
          formats::load(inputs.input_ids.dtype, inputs.input_ids.data, t)));
    route::Chosen chosen = route::reference(
        {.tokens = static_cast<int>(inputs.tokens.shape[0]),
         .experts = config.experts,
         .top_k = config.top_k,
         .routing = config.routing},
        {.logits = logits,
         .correction_bias = span_of(weights.correction_bias, weights.correction_bias.as<float>()),
         .input_ids = input_ids,
         .hash_table = span_of(weights.hash_table, weights.hash_table.as<std::int32_t>())});
    routed = {std::move(chosen.ids), std::move(chosen.weights), chosen.counters};
  }
  for (std::size_t i = 0; i < routed.ids.size(); ++i) {
    if (routed.ids[i] >= 0 && !std::isfinite(routed.weights[i]))
      ++routed.counters.non_finite_weights;
    if (rounding == Rounding::honest) routed.weights[i] = static_cast<float>(routed.weights[i]);
  }
  return routed;
}

}  // namespace switchyard::moe
