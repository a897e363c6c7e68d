#include "switchyard/tensor.h"

#include <gtest/gtest.h>

#include "switchyard/error.h"

namespace switchyard {
namespace {

TEST(Shape, CountsAndPrints) {
  const Shape shape{2, 3, 4};
  EXPECT_EQ(shape.rank(), 3);
  EXPECT_EQ(shape.elements(), 24);
  EXPECT_EQ(to_string(shape), "[2, 3, 4]");
  EXPECT_EQ(Shape{}.elements(), 1);
}

TEST(Shape, RefusesNegativeAndHugeExtents) {
  EXPECT_THROW((Shape{2, -1}), InvalidArgument);
  EXPECT_THROW((Shape{std::int64_t{1} << 40, std::int64_t{1} << 40}), InvalidArgument);
  EXPECT_THROW((Shape{1, 1, 1, 1, 1, 1, 1}), InvalidArgument);
}

TEST(Tensor, PackedTypesHoldTwoToAByte) {
  EXPECT_EQ(Tensor(DType::f4_e2m1, {3, 6}).bytes(), 9);
  EXPECT_THROW(Tensor(DType::f4_e2m1, {3, 5}), InvalidArgument);
}

TEST(Tensor, EmptyIsPresent) {
  const Tensor empty(DType::f32, {0, 4});
  EXPECT_TRUE(empty);
  EXPECT_EQ(empty.bytes(), 0);
  EXPECT_FALSE(Tensor());
}

TEST(DType, NamesRoundTrip) {
  for (int i = 0; i <= static_cast<int>(DType::boolean); ++i) {
    const auto type = static_cast<DType>(i);
    EXPECT_EQ(dtype_named(name(type)), type);
  }
  EXPECT_EQ(dtype_named("float"), std::nullopt);
}

}  // namespace
}  // namespace switchyard
