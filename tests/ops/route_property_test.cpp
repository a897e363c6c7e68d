// Every method against a second, differently built implementation: sort everything, then cut.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.h"
#include "ops/route/problem.h"

namespace switchyard {
namespace {

using Row = std::vector<double>;

Row softmax_of(Row z) {
  const double max = *std::max_element(z.begin(), z.end());
  double sum = 0;
  for (double& x : z) sum += (x = std::exp(x - max));
  for (double& x : z) x /= sum;
  return z;
}

Row score(RoutingMethod method, Row z) {
  using enum RoutingMethod;
  switch (method) {
    case deepseek_v3:
    case sigmoid_bias:
    case minimax2:
    case llama4:
    case RoutingMethod::sigmoid:
    case sigmoid_renormalize:
    case topk_sigmoid:
      for (double& x : z) x = 1 / (1 + std::exp(-x));
      return z;
    case sqrt_softplus_bias:
      for (double& x : z) x = std::sqrt(std::log1p(std::exp(x)));
      return z;
    case topk:
      return z;
    default:
      return softmax_of(z);
  }
}

bool uses_bias(RoutingMethod method) {
  using enum RoutingMethod;
  return method == deepseek_v3 || method == sigmoid_bias || method == minimax2 ||
         method == sqrt_softplus_bias || method == softmax_bias;
}

bool divides(const Routing& r) {
  using enum RoutingMethod;
  if (r.method == softmax_renormalize || r.method == topk_softmax || r.method == minimax2 ||
      r.method == sigmoid_renormalize)
    return true;
  const bool asks = r.method == deepseek_v2 || r.method == deepseek_v3 ||
                    r.method == sigmoid_bias || r.method == sqrt_softplus_bias;
  return asks && r.renormalize;
}

std::vector<bool> open_groups(const Routing& r, const Row& ranked) {
  const std::size_t size = ranked.size() / static_cast<std::size_t>(r.groups);
  std::vector<std::pair<double, int>> groups;
  for (int g = 0; g < r.groups; ++g) {
    Row own(ranked.begin() + g * static_cast<std::ptrdiff_t>(size),
            ranked.begin() + (g + 1) * static_cast<std::ptrdiff_t>(size));
    std::sort(own.rbegin(), own.rend());
    const bool two = r.method == RoutingMethod::deepseek_v3 && size > 1;
    groups.emplace_back(-(own[0] + (two ? own[1] : 0)), g);
  }
  std::sort(groups.begin(), groups.end());
  std::vector<bool> open(ranked.size());
  for (int i = 0; i < r.topk_groups; ++i)
    for (std::size_t e = 0; e < size; ++e)
      open[static_cast<std::size_t>(groups[static_cast<std::size_t>(i)].second) * size + e] = true;
  return open;
}

void expect_token(const route::Problem& p, const Row& z, const std::vector<float>& bias,
                  const std::int32_t* ids, const double* weights) {
  const Row s = score(p.routing.method, z);
  Row ranked = s;
  if (uses_bias(p.routing.method))
    for (std::size_t e = 0; e < s.size(); ++e) ranked[e] += bias[e];
  const std::vector<bool> open = open_groups(p.routing, ranked);
  std::vector<std::int32_t> order(s.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    const auto i = static_cast<std::size_t>(a), j = static_cast<std::size_t>(b);
    return open[i] != open[j] ? open[i] : ranked[i] > ranked[j];
  });
  double sum = 0;
  for (int k = 0; k < p.top_k; ++k)
    sum += s[static_cast<std::size_t>(order[static_cast<std::size_t>(k)])];
  for (int k = 0; k < p.top_k; ++k) {
    const std::int32_t id = order[static_cast<std::size_t>(k)];
    EXPECT_EQ(ids[k], id) << k;
    const double w =
        s[static_cast<std::size_t>(id)] * p.routing.scaling / (divides(p.routing) ? sum : 1);
    EXPECT_NEAR(weights[k], w, 1e-12 * (1 + std::abs(w)));
  }
}

void compare(const route::Problem& p, std::uint64_t seed) {
  SCOPED_TRACE(to_string(p) + " seed " + std::to_string(seed));
  const Random logit(seed, 0), correction(seed, 1);
  Row z;
  std::vector<float> bias;
  for (int i = 0; i < p.tokens * p.scores(); ++i)
    z.push_back(2 * logit.normal(static_cast<std::uint64_t>(i)));
  for (int e = 0; e < p.scores(); ++e)
    bias.push_back(correction.normal(static_cast<std::uint64_t>(e)));
  const route::Chosen chosen = route::reference(p, {.logits = z, .correction_bias = bias});
  for (int t = 0; t < p.tokens; ++t)
    expect_token(p, Row(z.begin() + t * p.scores(), z.begin() + (t + 1) * p.scores()), bias,
                 &chosen.ids[static_cast<std::size_t>(t * p.top_k)],
                 &chosen.weights[static_cast<std::size_t>(t * p.top_k)]);
}

// E and K of spec 10.7's routing tests, and the limits that the library promises.
TEST(RouteProperty, EveryRegularMethod) {
  const std::pair<int, int> sizes[] = {{1, 1},   {7, 2},   {16, 4},   {72, 6},    {128, 1},
                                       {160, 8}, {384, 8}, {512, 22}, {1024, 32}, {32, 32}};
  for (const auto& method : routing_methods()) {
    using enum RoutingMethod;
    if (method.value == RoutingMethod::hash || method.value == sparse_mixer ||
        method.value == adaptive_k || method.value == load_balanced)
      continue;
    for (const auto& [experts, top_k] : sizes)
      for (const bool renormalize : {true, false})
        compare({.tokens = 5,
                 .experts = experts,
                 .top_k = top_k,
                 .routing = {.method = method.value, .scaling = 2.5F, .renormalize = renormalize}},
                7);
  }
}

TEST(RouteProperty, Groups) {
  const int shapes[][4] = {{256, 8, 4, 8}, {128, 4, 2, 4}, {64, 8, 1, 6}, {12, 12, 5, 3}};
  for (const auto method : {RoutingMethod::deepseek_v2, RoutingMethod::deepseek_v3})
    for (const auto& s : shapes)
      for (std::uint64_t seed = 0; seed < 5; ++seed)
        compare({.tokens = 8,
                 .experts = s[0],
                 .top_k = s[3],
                 .routing = {.method = method, .groups = s[1], .topk_groups = s[2]}},
                seed);
}

TEST(RouteProperty, LinesRoundTrip) {
  for (const auto& method : routing_methods()) {
    const route::Problem p{
        .tokens = 3,
        .experts = 64,
        .top_k = 6,
        .routing = {
            .method = method.value, .scaling = 2.827F, .renormalize = false, .zero_experts = 8}};
    EXPECT_EQ(route::parse(to_string(p)), p) << to_string(p);
  }
  EXPECT_EQ(to_string(route::parse("route k8 deepseek_v3 e256 t128 topk_groups=4 groups=8")),
            "route t128 e256 k8 deepseek_v3 groups=8 topk_groups=4");
}

}  // namespace
}  // namespace switchyard
