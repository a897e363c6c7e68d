#include "device/row_scale.cuh"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace switchyard::device {
namespace {

TEST(RowScale, NoValueOverflowsFp16AndAllExponentsComeBack) {
  for (uint32 exponent = 0; exponent < 255; ++exponent)
    for (const uint32 mantissa : {0U, 1U, 0x7fffffU}) {
      const uint32 bits = exponent << 23 | mantissa;
      const double bound = bits_as<float>(bits), scale = row_scale(bits), unit = row_unit(bits);
      ASSERT_LT(bound * scale, 0x1p15) << bound;
      ASSERT_EQ(scale * unit, 1) << bound;
      ASSERT_GE(bound * scale, exponent > 14 ? 0x1p14 : 0) << bound;
    }
}

TEST(RowScale, BoundsThatAreNotFiniteMakeNaN) {
  for (const float bound :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_TRUE(std::isnan(row_scale(bits_as<uint32>(bound))));
    EXPECT_TRUE(std::isnan(row_unit(bits_as<uint32>(bound))));
  }
}

}  // namespace
}  // namespace switchyard::device
