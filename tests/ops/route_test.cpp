#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ops/route/problem.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Answer {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
  MoeCounters counters;
};

struct Question {
  Routing routing;
  int top_k = 2;
  std::vector<float> logits;
  int tokens = 1;
  std::vector<float> bias = {};
};

template <class T>
ConstTensorView view(const std::vector<T>& values, DType type, Shape shape) {
  return {values.empty() ? nullptr : values.data(), type, shape};
}

Answer route(const Question& q) {
  const auto width = static_cast<std::int64_t>(q.logits.size()) / q.tokens;
  const auto slots = static_cast<std::size_t>(q.tokens * q.top_k);
  Answer a{std::vector<std::int32_t>(slots), std::vector<float>(slots), {}};
  ops::RouteArgs args;
  args.logits = view(q.logits, DType::f32, {q.tokens, width});
  args.correction_bias = view(q.bias, DType::f32, {width});
  args.expert_ids = {a.ids.data(), DType::i32, {q.tokens, q.top_k}};
  args.expert_weights = {a.weights.data(), DType::f32, {q.tokens, q.top_k}};
  a.counters = ops::route(q.routing, args);
  return a;
}

void expect(const Answer& a, std::vector<std::int32_t> ids, std::vector<float> weights) {
  EXPECT_EQ(a.ids, ids);
  ASSERT_EQ(a.weights.size(), weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) EXPECT_NEAR(a.weights[i], weights[i], 2e-6) << i;
}

// e^{1,2,3,0} = 2.718282 7.389056 20.085537 1, sum 31.192875:
// softmax(1,2,3,0) = 0.087144 0.236883 0.643914 0.032059
const std::vector<float> kLogits = {1, 2, 3, 0};

TEST(Route, Softmax) {
  expect(route({{.method = RoutingMethod::softmax}, 2, kLogits}), {2, 1}, {0.643914F, 0.236883F});
}

TEST(Route, SoftmaxRenormalizeIsTopkSoftmax) {
  // 1 / (1 + e^-1) = 0.731059
  for (const auto method : {RoutingMethod::softmax_renormalize, RoutingMethod::topk_softmax})
    expect(route({{.method = method}, 2, kLogits}), {2, 1}, {0.731059F, 0.268941F});
}

TEST(Route, ScalingMultiplies) {
  expect(route({{.method = RoutingMethod::softmax_renormalize, .scaling = 2}, 2, kLogits}), {2, 1},
         {1.462117F, 0.537883F});
}

TEST(Route, DeepseekV2TakesTheGroupWithTheLargestScore) {
  // groups {0,1} and {2,3}: maximum 2 against 3; the second group alone gives 2 and 3
  const Routing grouped{.method = RoutingMethod::deepseek_v2,
                        .groups = 2,
                        .topk_groups = 1,
                        .scaling = 2,
                        .renormalize = false};
  expect(route({grouped, 2, kLogits}), {2, 3}, {2 * 0.643914F, 2 * 0.032059F});
}

// sigmoid(0, 1, 2, 3) = 0.5 0.731059 0.880797 0.952574
TEST(Route, DeepseekV3RanksWithTheBiasAndWeighsWithout) {
  const Routing plain{.method = RoutingMethod::sigmoid_bias, .scaling = 2.5F};
  // biased: 1.5 0.731 0.881 0.953 -> experts 0 and 3; 0.5 and 0.952574, sum 1.452574
  expect(route({plain, 2, {0, 1, 2, 3}, 1, {1, 0, 0, 0}}), {0, 3},
         {2.5F * 0.344217F, 2.5F * 0.655783F});
}

TEST(Route, DeepseekV3GroupsByTheSumOfTheirTopTwo) {
  // biased: {0.95, 0.1, 0.1} {0.7, 0.6, 0.1}: sums 1.05 and 1.3, so 3 and 4 win though 0 is best
  const Routing grouped{.method = RoutingMethod::deepseek_v3, .groups = 2, .topk_groups = 1};
  const std::vector<float> zero(6, 0);  // sigmoid 0.5 each
  expect(route({grouped, 2, zero, 1, {0.45F, -0.4F, -0.4F, 0.2F, 0.1F, -0.4F}}), {3, 4},
         {0.5F, 0.5F});
}

TEST(Route, MaskedGroupsLoseToNegativeScores) {
  // all biased scores are negative: masking with 0 would choose from the group that lost
  const Routing grouped{.method = RoutingMethod::deepseek_v3, .groups = 2, .topk_groups = 1};
  const std::vector<float> zero(4, 0);
  expect(route({grouped, 2, zero, 1, {-1, -2, -3, -4}}), {0, 1}, {0.5F, 0.5F});
}

TEST(Route, SigmoidFamilies) {
  const std::vector<float> z = {0, 1, 2, 3};
  expect(route({{.method = RoutingMethod::sigmoid}, 2, z}), {3, 2}, {0.952574F, 0.880797F});
  expect(route({{.method = RoutingMethod::topk_sigmoid}, 2, z}), {3, 2}, {0.952574F, 0.880797F});
  expect(route({{.method = RoutingMethod::llama4}, 1, z}), {3}, {0.952574F});
  // sum 1.833371
  expect(route({{.method = RoutingMethod::sigmoid_renormalize}, 2, z}), {3, 2},
         {0.519575F, 0.480425F});
  expect(route({{.method = RoutingMethod::minimax2, .renormalize = false}, 2, z, 1, {0, 9, 0, 0}}),
         {1, 3}, {0.434215F, 0.565785F});
  expect(route({{.method = RoutingMethod::sigmoid_bias, .renormalize = false}, 2, z}), {3, 2},
         {0.952574F, 0.880797F});
}

TEST(Route, TopkGivesLogits) {
  expect(route({{.method = RoutingMethod::topk}, 3, {-1, 4, -3, 2}}), {1, 3, 0}, {4, 2, -1});
}

TEST(Route, SqrtSoftplus) {
  // softplus(0, 2) = 0.693147 2.126928, roots 0.832555 1.458399, sum 2.290954
  expect(route({{.method = RoutingMethod::sqrt_softplus_bias, .scaling = 1.5F}, 2, {0, 2, -9}}),
         {1, 0}, {1.5F * 0.636590F, 1.5F * 0.363410F});
  // no overflow: softplus(1000) = 1000
  expect(route({{.method = RoutingMethod::sqrt_softplus_bias, .renormalize = false}, 1, {1000, 0}}),
         {0}, {31.622777F});
}

TEST(Route, SoftmaxBiasWithZeroExperts) {
  // 2 experts, 2 zero experts; biased softmax: 0.087 0.237 0.644 1.032
  const Routing longcat{.method = RoutingMethod::softmax_bias, .scaling = 6, .zero_experts = 2};
  expect(route({longcat, 2, kLogits, 1, {0, 0, 0, 1}}), {3, 2}, {6 * 0.0320586F, 6 * 0.643914F});
}

TEST(Route, Hash) {
  Question q{{.method = RoutingMethod::hash}, 2, {0, 2, -9, 0, 2, -9}, 2};
  std::vector<std::int32_t> table = {0, 1, 2, 0, 1, 7}, ids(4);
  std::vector<float> weights(4);
  std::vector<std::int64_t> input = {0, 2};
  ops::RouteArgs args;
  args.logits = view(q.logits, DType::f32, {2, 3});
  args.hash_table = view(table, DType::i32, {3, 2});
  args.input_ids = view(input, DType::i64, {2});
  args.expert_ids = {ids.data(), DType::i32, {2, 2}};
  args.expert_weights = {weights.data(), DType::f32, {2, 2}};
  const MoeCounters counters = ops::route(q.routing, args);
  // token 0: experts 0 and 1, as in SqrtSoftplus; token 1: expert 1, and 7 does not exist
  expect({ids, weights, {}}, {0, 1, 1, -1}, {0.363410F, 0.636590F, 1, 0});
  EXPECT_EQ(counters.bad_expert_ids, 1);
  input[1] = 3;
  EXPECT_THROW(ops::route(q.routing, args), InvalidArgument);
  args.input_ids = {};
  EXPECT_THROW(ops::route(q.routing, args), InvalidArgument);
}

TEST(Route, SparseMixer) {
  // First pick 10: within 2 %: 9.9 (1 %); 1 / (1 + e^-0.1) = 0.524979. Second pick 9.9, alone
  // (9 is 9 % away): weight 1. Third pick 9.
  expect(route({{.method = RoutingMethod::sparse_mixer}, 3, {9, 10, 9.9F, -10}}), {1, 2, 0},
         {0.524979F, 1, 1});
}

TEST(Route, AdaptiveK) {
  const Routing adaptive{.method = RoutingMethod::adaptive_k};
  // one expert has everything: entropy 0, 2 of 4 slots
  expect(route({adaptive, 4, {50, 0, 0, 0}}), {0, 1, -1, -1}, {1, 0, 0, 0});
  // uniform over 4: entropy ln 4 = 1.386, between 1.3 and 1.7: 3 slots of 1/3
  expect(route({adaptive, 4, {0, 0, 0, 0}}), {0, 1, 2, -1}, {1 / 3.F, 1 / 3.F, 1 / 3.F, 0});
  // uniform over 8: entropy 2.08: all slots
  expect(route({adaptive, 4, std::vector<float>(8, 0)}), {0, 1, 2, 3}, {.25F, .25F, .25F, .25F});
}

TEST(Route, LoadBalanced) {
  const Routing balanced{.method = RoutingMethod::load_balanced};
  expect(route({balanced, 2, std::vector<float>(9, 0), 3}), {0, 1, 2, 0, 1, 2}, {1, 1, 1, 1, 1, 1});
  // also across the blocks that the CPU works in
  const Answer many = route({balanced, 1, std::vector<float>(300, 0), 100});
  for (int t = 0; t < 100; ++t) EXPECT_EQ(many.ids[static_cast<std::size_t>(t)], t % 3);
}

TEST(Route, TiesGoToTheLowerIndex) {
  for (const auto& method : routing_methods()) {
    if (method.value == RoutingMethod::hash || method.value == RoutingMethod::adaptive_k ||
        method.value == RoutingMethod::load_balanced)
      continue;
    const Answer a = route({{.method = method.value}, 3, {1, 2, 2, 2, 2, 1}});
    EXPECT_EQ(a.ids, (std::vector<std::int32_t>{1, 2, 3})) << method.name;
  }
}

TEST(Route, SaturatedSigmoidsStillRank) {
  // in f32, sigmoid(40) == sigmoid(50) == 1
  expect(route({{.method = RoutingMethod::sigmoid}, 1, {40, 50}}), {1}, {1});
}

TEST(Route, NaNIsNeverChosen) {
  for (const auto& method : routing_methods()) {
    if (method.value == RoutingMethod::hash || method.value == RoutingMethod::load_balanced)
      continue;
    const Answer a = route({{.method = method.value}, 3, {NAN, 5, NAN, -kInf}});
    EXPECT_EQ(a.ids, (std::vector<std::int32_t>{1, 3, -1})) << method.name;
    EXPECT_EQ(a.counters.non_finite_logits, 2);
    if (method.value != RoutingMethod::topk) {
      for (const float w : a.weights) EXPECT_TRUE(std::isfinite(w)) << method.name;
    }
    EXPECT_EQ(a.weights[2], 0);
  }
}

TEST(Route, InfinityTakesAll) {
  expect(route({{.method = RoutingMethod::softmax}, 2, {1, kInf, 2}}), {1, 2}, {1, 0});
}

TEST(Route, AllExperts) {
  expect(route({{.method = RoutingMethod::softmax}, 4, kLogits}), {2, 1, 0, 3},
         {0.643914F, 0.236883F, 0.087144F, 0.032059F});
}

TEST(Route, NoTokens) {
  const Routing routing{.method = RoutingMethod::softmax};
  ops::RouteArgs args;
  float none = 0;
  std::int32_t no_id = 0;
  args.logits = {&none, DType::f32, {0, 4}};
  args.expert_ids = {&no_id, DType::i32, {0, 2}};
  args.expert_weights = {&none, DType::f32, {0, 2}};
  EXPECT_NO_THROW(ops::route(routing, args));
}

std::string refusal(const Question& q) {
  try {
    route(q);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "none";
}

TEST(Route, RefusesWithASentence) {
  EXPECT_EQ(refusal({{}, 5, kLogits}),
            "[route] top_k: expected 1..4 (the experts), got 5. Every slot needs its own expert.");
  EXPECT_EQ(refusal({{.groups = 2}, 1, kLogits}),
            "[route] groups: softmax_renormalize has none, got 2. Use deepseek_v2 or deepseek_v3.");
  EXPECT_EQ(refusal({{.method = RoutingMethod::deepseek_v3, .groups = 3}, 1, kLogits}),
            "[route] groups: expected a divisor of the 4 experts, got 3.");
  EXPECT_EQ(
      refusal({{.method = RoutingMethod::deepseek_v3, .groups = 2, .topk_groups = 1}, 3, kLogits}),
      "[route] top_k: expected at most the 2 experts of 1 groups, got 3.");
  EXPECT_EQ(refusal({{.zero_experts = 4}, 1, kLogits}),
            "[route] experts: expected at least 1, got 0.");
}

}  // namespace
}  // namespace switchyard
