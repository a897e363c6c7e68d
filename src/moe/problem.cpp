#include "switchyard/problem.h"

#include "base/words.h"
#include "ops/route/problem.h"

namespace switchyard {
namespace {

constexpr std::string_view kLoads[] = {"random", "balanced", "zipf", "hot"};

template <class Config, class Line>
void routing_fields(Config& c, Line& line) {
  line.option("groups", c.routing.groups, 1, 1);
  line.option("topk_groups", c.routing.topk_groups, 1, 1);
  line.option("scaling", c.routing.scaling, 1.0F);
  bool as_is = !c.routing.renormalize;
  line.flag("no_renormalize", as_is);
  if constexpr (!std::is_const_v<Config>) c.routing.renormalize = !as_is;
  line.option("zero_experts", c.routing.zero_experts, 0, 0);
  int on_input = c.router_weight_on_input ? 1 : 0;
  line.option("on_input", on_input, c.routing.method == RoutingMethod::llama4 ? 1 : 0, 0);
  if constexpr (!std::is_const_v<Config>) c.router_weight_on_input = on_input != 0;
}

template <class Problem, class Line>
void fields(Problem& p, Line& line) {
  auto& c = p.config;
  line.count("t", p.tokens, 0);
  line.count("h", c.hidden, 1);
  line.count("i", c.intermediate, 1);
  line.count("e", c.experts, 1);
  line.count("k", c.top_k, 1);
  line.word(c.activation.kind, activation_kinds());
  line.word(c.routing.method, routing_methods());
  routing_fields(c, line);
  const Activation usual = activation(c.activation.kind);
  line.option("alpha", c.activation.alpha, usual.alpha);
  line.option("beta", c.activation.beta, usual.beta);
  line.option("limit", c.activation.limit, usual.limit);
  line.option("linear_beta", c.activation.linear_beta, usual.linear_beta);
  line.option("act", c.act, ActivationFormat::bf16, activation_formats());
  line.flag("fused_alpha", c.fused_alpha);
  line.flag("dense", c.dense);
  line.flag("bias", p.bias);
  line.option("shared", c.shared_intermediate, 0, 0);
  line.flag("shared_gate", c.shared_gate);
  line.option("latent", c.latent, 0, 0);
  line.option("norm_epsilon", c.norm_epsilon, MoeConfig{}.norm_epsilon);
  line.option("routing_load", p.load, "random", kLoads);
  line.part("tp", p.tp_rank, p.tp_ranks);
  line.part("ep", p.ep_rank, p.ep_ranks);
  line.word(p.format);
}

void check_numbers(const MoeProblem& p) {
  const MoeConfig& c = p.config;
  route::check({.tokens = p.tokens, .experts = c.experts, .top_k = c.top_k, .routing = c.routing},
               "moe");
  require(!c.fused_alpha || c.act == ActivationFormat::nvfp4,
          "[moe] fused_alpha: expected act=nvfp4, got act={}. Without quantisation between the "
          "GEMMs there is nothing to fuse.",
          name(c.act));
  require(!c.fused_alpha || p.tp_ranks == 1,
          "[moe] fused_alpha: expected one tensor-parallel rank, got {}: each would quantise by a "
          "largest factor of its own. Leave it out.",
          p.tp_ranks);
  require(!c.shared_gate || c.shared_intermediate > 0,
          "[moe] shared_gate: expected shared=IS with it, got none.");
  require(p.ep_ranks <= c.experts && c.experts % p.ep_ranks == 0,
          "[moe] ep: expected ranks that divide the {} experts, got {}.", c.experts, p.ep_ranks);
  require(p.tp_ranks <= c.intermediate, "[moe] tp: expected at most {} ranks, got {}.",
          c.intermediate, p.tp_ranks);
}

}  // namespace

MoeProblem parse_problem(std::string_view text) {
  MoeProblem problem;
  LineParser line("moe", text);
  fields(problem, line);
  line.finish();
  check_numbers(problem);
  return problem;
}

std::string to_string(const MoeProblem& problem) {
  LinePrinter line("moe");
  fields(problem, line);
  return line.text();
}

}  // namespace switchyard
