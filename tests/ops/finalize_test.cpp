#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/random.h"
#include "ops/finalize/problem.h"
#include "switchyard/error.h"
#include "switchyard/ops.h"
#include "tests/support/tiny.h"

namespace switchyard {
namespace {

std::vector<std::int32_t> values(const Tensor& t) {
  return {t.as<std::int32_t>(), t.as<std::int32_t>() + t.shape().elements()};
}

TEST(GroupByExpert, IsStableAndDropsForeignIds) {
  // tokens 0..2, K 2; expert 1 has slots 0 and 5, expert 0 slot 3, expert 2 nothing
  const Tensor ids = tiny::ints({3, 2}, {1, -1, 3, 0, -7, 1});
  Tensor offsets(DType::i64, {4}), rows(DType::i32, {6});
  ops::group_by_expert(ids.view(), offsets.view(), rows.view());
  EXPECT_EQ((std::vector<std::int64_t>(offsets.as<std::int64_t>(), offsets.as<std::int64_t>() + 4)),
            (std::vector<std::int64_t>{0, 1, 3, 3}));
  EXPECT_EQ(values(rows), (std::vector<std::int32_t>{3, 0, 5, -1, -1, -1}));
}

TEST(GroupByExpert, RefusesWrongShapes) {
  const Tensor ids = tiny::ints({1, 2}, {0, 1});
  Tensor offsets(DType::i64, {3}), rows(DType::i32, {3}), wrong(DType::i32, {3});
  EXPECT_THROW(ops::group_by_expert(ids.view(), offsets.view(), rows.view()), InvalidArgument);
  EXPECT_THROW(ops::group_by_expert(ids.view(), wrong.view(), rows.view()), InvalidArgument);
}

// Spec 7.1's invariants: injective, round trip, in the expert's segment, counts, padding.
TEST(Finalize, ByHand) {
  // token 0: 2 * row 1 + 3 * row 0; token 1: slot 3 only, its other row is NaN and left out
  const Tensor expert_out = tiny::floats({3, 2}, {1, 2, 10, 20, 100, 200});
  const Tensor rows = tiny::ints({3}, {1, 0, 3});
  const Tensor weights = tiny::floats({2, 2}, {2, 3, NAN, 0.5F});
  Tensor out(DType::f32, {2, 2});
  ops::finalize({expert_out.view(), rows.view(), weights.view(), out.view()});
  EXPECT_EQ((std::vector<float>(out.as<float>(), out.as<float>() + 4)),
            (std::vector<float>{23, 46, 50, 100}));
  const Tensor bad = tiny::ints({3}, {1, 0, 4});
  EXPECT_THROW(ops::finalize({expert_out.view(), bad.view(), weights.view(), out.view()}),
               InvalidArgument);
}

TEST(Finalize, MatchesReference) {
  const int tokens = 11, top_k = 3, hidden = 37, experts = 4;
  const Random random(9), weight(10), value(11);
  Tensor ids(DType::i32, {tokens, top_k}), offsets(DType::i64, {experts + 1});
  Tensor rows(DType::i32, {tokens * top_k}), weights(DType::f32, {tokens, top_k});
  for (int i = 0; i < tokens * top_k; ++i) {
    const auto at = static_cast<std::uint64_t>(i);
    ids.as<std::int32_t>()[i] = static_cast<std::int32_t>(random.below(at, experts + 1)) - 1;
    weights.as<float>()[i] = weight.normal(at);
  }
  ops::group_by_expert(ids.view(), offsets.view(), rows.view());
  Tensor expert_out(DType::f32, {tokens * top_k, hidden}), out(DType::f32, {tokens, hidden});
  std::vector<double> wide, wide_weights(weights.as<float>(), weights.as<float>() + 33);
  for (int i = 0; i < tokens * top_k * hidden; ++i)
    wide.push_back(expert_out.as<float>()[i] = value.normal(static_cast<std::uint64_t>(i)));
  ops::finalize({expert_out.view(), rows.view(), weights.view(), out.view()});
  std::vector<double> expected(static_cast<std::size_t>(tokens * hidden));
  finalize::reference(wide, {rows.as<std::int32_t>(), 33}, wide_weights, top_k, expected);
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(out.as<float>()[i], expected[i], 1e-5);
}

}  // namespace
}  // namespace switchyard
