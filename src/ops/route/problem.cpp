#include "ops/route/problem.h"

#include <algorithm>

namespace switchyard::route {
namespace {

template <class P, class Line>
void fields(P& p, Line& line) {
  line.count("t", p.tokens, 0);
  line.count("e", p.experts, 1);
  line.count("k", p.top_k, 1);
  line.word(p.routing.method, routing_methods());
  line.option("groups", p.routing.groups, 1, 1);
  line.option("topk_groups", p.routing.topk_groups, 1, 1);
  line.option("scaling", p.routing.scaling, 1.0F);
  bool as_is = !p.routing.renormalize;
  line.flag("no_renormalize", as_is);
  if constexpr (!std::is_const_v<P>) p.routing.renormalize = !as_is;
  line.option("zero_experts", p.routing.zero_experts, 0, 0);
}

}  // namespace

std::string to_string(const Problem& problem) {
  LinePrinter line("route");
  fields(problem, line);
  return line.text();
}

Problem parse(std::string_view text) {
  Problem problem;
  LineParser line("route", text);
  fields(problem, line);
  line.finish();
  check(problem, "route");
  return problem;
}

void check(const Problem& p, std::string_view where) {
  const Routing& r = p.routing;
  require(p.tokens >= 0, "[{}] tokens: expected a count, got {}.", where, p.tokens);
  require(p.experts >= 1, "[{}] experts: expected at least 1, got {}.", where, p.experts);
  require(r.zero_experts >= 0, "[{}] zero_experts: expected a count, got {}.", where,
          r.zero_experts);
  require(p.top_k >= 1 && p.top_k <= p.scores(),
          "[{}] top_k: expected 1..{} (the experts), got {}. Every slot needs its own expert.",
          where, p.scores(), p.top_k);
  require(r.groups >= 1, "[{}] groups: expected at least 1, got {}.", where, r.groups);
  if (r.groups == 1) return;
  require(rule(r.method).groups != Rule::Groups::none,
          "[{}] groups: {} has none, got {}. Use deepseek_v2 or deepseek_v3.", where,
          name(r.method), r.groups);
  require(p.scores() % r.groups == 0, "[{}] groups: expected a divisor of the {} experts, got {}.",
          where, p.scores(), r.groups);
  require(r.topk_groups >= 1 && r.topk_groups <= r.groups,
          "[{}] topk_groups: expected 1..{} (groups), got {}.", where, r.groups, r.topk_groups);
  require(p.top_k <= p.scores() / r.groups * r.topk_groups,
          "[{}] top_k: expected at most the {} experts of {} groups, got {}.", where,
          p.scores() / r.groups * r.topk_groups, r.topk_groups, p.top_k);
}

Rule rule(RoutingMethod method) noexcept {
  using enum Rule::Score;
  using enum Rule::Groups;
  using W = Rule::Weight;
  switch (method) {
    case RoutingMethod::softmax:
      return {.score = softmax, .weight = W::score};
    case RoutingMethod::softmax_renormalize:
      return {.score = softmax, .weight = W::selected_softmax};
    case RoutingMethod::topk_softmax:
      return {.score = softmax, .weight = W::selected_softmax};
    case RoutingMethod::deepseek_v2:
      return {.score = softmax, .groups = maximum, .weight = W::if_renormalize};
    case RoutingMethod::deepseek_v3:
      return {.score = sigmoid, .biased = true, .groups = top2_sum, .weight = W::if_renormalize};
    case RoutingMethod::sigmoid_bias:
      return {.score = sigmoid, .biased = true, .weight = W::if_renormalize};
    case RoutingMethod::minimax2:
      return {.score = sigmoid, .biased = true, .weight = W::normalized};
    case RoutingMethod::llama4:
      return {.score = sigmoid};
    case RoutingMethod::topk:
      return {.score = logit};
    case RoutingMethod::sigmoid:
      return {.score = sigmoid};
    case RoutingMethod::sigmoid_renormalize:
      return {.score = sigmoid, .weight = W::normalized};
    case RoutingMethod::topk_sigmoid:
      return {.score = sigmoid};
    case RoutingMethod::sqrt_softplus_bias:
      return {.score = sqrt_softplus, .biased = true, .weight = W::if_renormalize};
    case RoutingMethod::hash:
      return {.score = sqrt_softplus, .weight = W::if_renormalize};
    case RoutingMethod::softmax_bias:
      return {.score = softmax, .biased = true};
    case RoutingMethod::sparse_mixer:
      return {.score = logit};
    case RoutingMethod::adaptive_k:
      return {.score = softmax};
    case RoutingMethod::load_balanced:
      return {.score = logit};
  }
  return {};
}

}  // namespace switchyard::route
