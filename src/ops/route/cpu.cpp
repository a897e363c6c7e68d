// ops::route on a CPU: the definition itself, in blocks of tokens. Routing is a small part of the
// layer's arithmetic, and f64 makes the selection exact.

#include <algorithm>

#include "base/check.h"
#include "base/expect.h"
#include "formats/convert.h"
#include "ops/route/problem.h"
#include "switchyard/ops.h"

namespace switchyard::ops {
namespace {

constexpr std::int64_t kBlockTokens = 64;

std::vector<std::int64_t> input_ids(const RouteArgs& args, int top_k) {
  const ConstTensorView ids = args.input_ids, table = args.hash_table;
  require(ids && table, "[route] hash: expected input_ids and hash_table, got {}.",
          table ? "no input_ids" : "no hash_table");
  expect("route", "input_ids", ids, {args.logits.shape[0]}, {DType::i32, DType::i64});
  const std::int64_t vocabulary = table.shape.rank() == 2 ? table.shape[0] : 0;
  expect("route", "hash_table", table, {vocabulary, top_k}, {DType::i32});
  std::vector<std::int64_t> values;
  for (std::int64_t t = 0; t < ids.shape[0]; ++t) {
    values.push_back(ids.dtype == DType::i32 ? ids.as<std::int32_t>()[t]
                                             : ids.as<std::int64_t>()[t]);
    require(values.back() >= 0 && values.back() < vocabulary,
            "[route] input_ids: token {}: expected an id in [0, {}), got {}.", t, vocabulary,
            values.back());
  }
  return values;
}

route::Problem problem_of(const Routing& routing, const RouteArgs& args) {
  const Shape& logits = args.logits.shape;
  require(args.logits && logits.rank() == 2, "[route] logits: expected [T, E], got {}.",
          args.logits ? to_string(logits) : "none");
  require(formats::is_plain_float(args.logits.dtype),
          "[route] logits: expected f32, bf16 or f16, got {}.", name(args.logits.dtype));
  require(args.expert_ids && args.expert_ids.shape.rank() == 2,
          "[route] expert_ids: expected [T, K], got {}.", to_string(args.expert_ids.shape));
  const std::int64_t top_k = args.expert_ids.shape[1];
  constexpr std::int64_t kMost = 1 << 30;
  require(logits[0] <= kMost && logits[1] <= kMost && top_k <= kMost,
          "[route] logits: expected at most 2^30 tokens and experts, got {}.", to_string(logits));
  const route::Problem problem{.tokens = static_cast<int>(logits[0]),
                               .experts = static_cast<int>(logits[1]) - routing.zero_experts,
                               .top_k = static_cast<int>(top_k),
                               .routing = routing};
  route::check(problem, "route");
  expect("route", "expert_ids", args.expert_ids, {logits[0], top_k}, {DType::i32});
  expect("route", "expert_weights", args.expert_weights, {logits[0], top_k}, {DType::f32});
  if (args.correction_bias)
    expect("route", "correction_bias", args.correction_bias, {logits[1]}, {DType::f32});
  return problem;
}

}  // namespace

MoeCounters route(const Routing& routing, const RouteArgs& args, Device) {
  route::Problem block = problem_of(routing, args);
  const std::int64_t width = block.scores(), top_k = block.top_k;
  route::Inputs inputs;
  std::vector<std::int64_t> ids;
  if (routing.method == RoutingMethod::hash) {
    ids = input_ids(args, block.top_k);
    inputs.hash_table = {args.hash_table.as<std::int32_t>(),
                         static_cast<std::size_t>(args.hash_table.shape.elements())};
  }
  if (args.correction_bias)
    inputs.correction_bias = {args.correction_bias.as<float>(), static_cast<std::size_t>(width)};

  MoeCounters counters;
  std::vector<double> logits;
  const std::int64_t tokens = args.logits.shape[0];
  for (std::int64_t first = 0; first < tokens; first += kBlockTokens) {
    block.tokens = static_cast<int>(std::min(kBlockTokens, tokens - first));
    const auto count = static_cast<std::size_t>(block.tokens);
    logits.resize(count * static_cast<std::size_t>(width));
    formats::load_run(args.logits.dtype, args.logits.data, first * width, block.tokens * width,
                      logits.data());
    inputs.logits = logits;
    inputs.first_token = first;
    if (!ids.empty())
      inputs.input_ids = std::span(ids).subspan(static_cast<std::size_t>(first), count);
    const route::Chosen chosen = route::reference(block, inputs);
    std::copy(chosen.ids.begin(), chosen.ids.end(),
              args.expert_ids.as<std::int32_t>() + first * top_k);
    std::transform(chosen.weights.begin(), chosen.weights.end(),
                   args.expert_weights.as<float>() + first * top_k,
                   [](double w) { return static_cast<float>(w); });
    counters.non_finite_logits += chosen.counters.non_finite_logits;
    counters.bad_expert_ids += chosen.counters.bad_expert_ids;
  }
  return counters;
}

}  // namespace switchyard::ops
