#include "moe/closeness.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace switchyard::moe {
namespace {

using Values = std::vector<double>;

TEST(Closeness, MeasuresInHonestErrors) {
  const Values exact = {100, 50}, rounded = {101, 50}, actual = {100, 51.5};
  const Closeness close = compare(actual, rounded, exact, 1, 0);
  EXPECT_NEAR(close.worst_ratio, 1.5, 1e-3);
  EXPECT_EQ(close.worst, 1U);
  EXPECT_EQ(close.max_abs_error, 1.5);
  EXPECT_TRUE(close.finite_match);
}

TEST(Closeness, ALoudRowDoesNotHideAQuietOne) {
  const Values exact = {1000, 1}, rounded = {1001, 1.001}, actual = {1000, 1.5};
  EXPECT_GT(compare(actual, rounded, exact, 2, 0x1p-9).worst_ratio, 100);
}

TEST(Closeness, ALuckyRowIsHeldToTheMedian) {
  // the second row happened to round exactly; 1 % off is what the others have
  const Values exact = {1, 1, 1}, rounded = {1.01, 1, 1.01}, actual = {1, 1.01, 1};
  EXPECT_NEAR(compare(actual, rounded, exact, 3, 0).worst_ratio, 1, 1e-3);
}

TEST(Closeness, TheOutputsOwnRoundingMayFallEitherWay) {
  // 0.744 is off by 0.003 and rounds to 0.742, which is nearer to 0.741 than it deserves; a sum in
  // another order is 0.7442 and rounds to 0.746
  const Values exact = {0.741, 0.9}, rounded = {0.744, 0.9}, actual = {0.74609375, 0.9};
  const double ratio = compare(actual, rounded, exact, 1, 0x1p-9).worst_ratio;
  EXPECT_NEAR(ratio, 0.00509375 / (0.003 + 0.9 * 0x1p-9), 1e-3);
}

TEST(Closeness, SeesNonFiniteValues) {
  const Values exact = {1, NAN, INFINITY};
  EXPECT_TRUE(compare(exact, exact, exact, 1, 0x1p-9).finite_match);
  EXPECT_FALSE(compare(Values{1, NAN, -INFINITY}, exact, exact, 1, 0x1p-9).finite_match);
  EXPECT_FALSE(compare(Values{NAN, NAN, INFINITY}, exact, exact, 1, 0x1p-9).finite_match);
}

TEST(Closeness, EmptyAndZero) {
  EXPECT_EQ(compare({}, {}, {}, 0, 0x1p-9).worst_ratio, 0);
  const Values zero = {0, 0, 0, 1}, noise = {0, 0, 1e-3, 1};
  EXPECT_EQ(compare(zero, zero, zero, 2, 0x1p-9).zeros, 0.75);
  EXPECT_EQ(compare(zero, zero, zero, 2, 0x1p-9).worst_ratio, 0);
  EXPECT_GT(compare(Values{1e-9, 0, 0, 1}, zero, zero, 2, 0x1p-9).worst_ratio, 1e6);
}

}  // namespace
}  // namespace switchyard::moe
