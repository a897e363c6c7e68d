#include "formats/scale_layout.cuh"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <numeric>
#include <set>
#include <vector>

#include "switchyard/error.h"
#include "switchyard/ops.h"

namespace switchyard::ops {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr ScaleLayout kLayouts[] = {ScaleLayout::linear, ScaleLayout::swizzled_128x4,
                                    ScaleLayout::swizzled_8x4};

Bytes pattern(std::int64_t count) {
  Bytes bytes(static_cast<std::size_t>(count));
  std::uint32_t state = 1;
  for (std::uint8_t& byte : bytes) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<std::uint8_t>(1 + (state >> 24) % 255);  // never 0, the padding
  }
  return bytes;
}

Bytes swizzled(ScaleLayout layout, std::int64_t batch, std::int64_t rows, std::int64_t cols,
               const Bytes& linear) {
  // Poisoned, so that padding left unwritten shows.
  Bytes bytes(static_cast<std::size_t>(batch * scale_bytes(layout, rows, cols)), 0xee);
  swizzle_scales(layout, batch, rows, cols, linear, bytes);
  return bytes;
}

TEST(ScaleLayout, OffsetsAsTheSpecificationWritesThem) {
  using namespace formats;
  for (const int64 cols : {1, 3, 4, 18}) {
    const int64 padded = (cols + 3) / 4;
    for (int64 m = 0; m < 300; ++m)
      for (int64 s = 0; s < cols; ++s) {
        ASSERT_EQ(offset_linear(m, s, cols), m * cols + s);
        ASSERT_EQ(offset_128x4(m, s, cols), (m / 128) * (padded * 512) + (s / 4) * 512 +
                                                (m % 32) * 16 + ((m % 128) / 32) * 4 + (s % 4));
        ASSERT_EQ(offset_8x4(m, s, cols),
                  (m / 8) * (padded * 32) + (s / 4) * 32 + (m % 8) * 4 + (s % 4));
      }
  }
}

TEST(ScaleLayout, HandPickedOffsets) {
  EXPECT_EQ(formats::offset_128x4(1, 0, 4), 16);
  EXPECT_EQ(formats::offset_128x4(32, 0, 4), 4);
  EXPECT_EQ(formats::offset_128x4(127, 3, 4), 511);
  EXPECT_EQ(formats::offset_128x4(0, 4, 5), 512);
  EXPECT_EQ(formats::offset_128x4(128, 0, 5), 1024);
  EXPECT_EQ(formats::offset_8x4(9, 5, 8), 64 + 32 + 4 + 1);
  EXPECT_EQ(scale_bytes(ScaleLayout::swizzled_128x4, 129, 5), 256 * 8);
  EXPECT_EQ(scale_bytes(ScaleLayout::swizzled_8x4, 9, 5), 16 * 8);
  EXPECT_EQ(scale_bytes(ScaleLayout::linear, 9, 5), 45);
}

TEST(ScaleLayout, RoundTripsOverTheAcceptanceTable) {
  for (const ScaleLayout layout : kLayouts)
    for (const std::int64_t rows : {1, 8, 127, 128, 129, 256})
      for (const std::int64_t cols : {1, 3, 4, 18, 4096}) {
        const Bytes linear = pattern(rows * cols);
        const Bytes there = swizzled(layout, 1, rows, cols, linear);
        Bytes back(linear.size());
        unswizzle_scales(layout, 1, rows, cols, there, back);
        ASSERT_EQ(back, linear) << rows << " x " << cols;
        const auto kept =
            there.size() - static_cast<std::size_t>(std::count(there.begin(), there.end(), 0));
        ASSERT_EQ(kept, linear.size()) << "padding must be zero: " << rows << " x " << cols;
      }
}

RC_GTEST_PROP(ScaleLayout, OffsetsAreDistinctAndInside, ()) {
  const auto layout =
      *rc::gen::elementOf(std::vector<ScaleLayout>(std::begin(kLayouts), std::end(kLayouts)));
  const auto rows = *rc::gen::inRange<std::int64_t>(1, 300);
  const auto cols = *rc::gen::inRange<std::int64_t>(1, 40);
  std::set<switchyard::int64> seen;
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t col = 0; col < cols; ++col) {
      const switchyard::int64 at =
          layout == ScaleLayout::linear           ? formats::offset_linear(row, col, cols)
          : layout == ScaleLayout::swizzled_128x4 ? formats::offset_128x4(row, col, cols)
                                                  : formats::offset_8x4(row, col, cols);
      RC_ASSERT(at >= 0 && at < scale_bytes(layout, rows, cols));
      RC_ASSERT(seen.insert(at).second);
    }
}

RC_GTEST_PROP(ScaleLayout, BatchesFollowEachOtherWhole, ()) {
  const auto layout =
      *rc::gen::elementOf(std::vector<ScaleLayout>(std::begin(kLayouts), std::end(kLayouts)));
  const auto batch = *rc::gen::inRange<std::int64_t>(0, 4);
  const auto rows = *rc::gen::inRange<std::int64_t>(0, 140);
  const auto cols = *rc::gen::inRange<std::int64_t>(0, 10);
  const Bytes linear = pattern(batch * rows * cols);
  Bytes expected;
  for (std::int64_t b = 0; b < batch; ++b) {
    const auto first = linear.begin() + b * rows * cols;
    const Bytes one = swizzled(layout, 1, rows, cols, Bytes(first, first + rows * cols));
    expected.insert(expected.end(), one.begin(), one.end());
  }
  RC_ASSERT(swizzled(layout, batch, rows, cols, linear) == expected);
}

RC_GTEST_PROP(ScaleLayout, MergingPartsEqualsSwizzlingTheWhole, ()) {
  const auto layout =
      *rc::gen::elementOf(std::vector<ScaleLayout>(std::begin(kLayouts), std::end(kLayouts)));
  const auto parts = *rc::gen::inRange<std::int64_t>(1, 5);
  const auto rows = *rc::gen::inRange<std::int64_t>(1, 140);
  const auto cols = *rc::gen::inRange<std::int64_t>(1, 10);
  const Bytes linear = pattern(parts * rows * cols);
  Bytes merged(static_cast<std::size_t>(scale_bytes(layout, parts * rows, cols)), 0xee);
  merge_scales(layout, parts, rows, cols, swizzled(layout, parts, rows, cols, linear), merged);
  RC_ASSERT(merged == swizzled(layout, 1, parts * rows, cols, linear));
}

TEST(ScaleLayout, WrongSizesAreNamed) {
  const Bytes eight(8);
  Bytes out(512);
  const auto message = [](auto call) -> std::string {
    try {
      call();
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "nothing thrown";
  };
  const auto layout = ScaleLayout::swizzled_128x4;
  EXPECT_EQ(message([&] { swizzle_scales(layout, 1, 3, 3, eight, out); }),
            "[swizzle_scales] linear: expected 1 x 9 bytes, got 8.");
  EXPECT_EQ(message([&] { swizzle_scales(layout, 1, 2, 4, eight, std::span(out).first(8)); }),
            "[swizzle_scales] swizzled: expected 1 x 512 bytes, got 8.");
  EXPECT_EQ(message([&] { unswizzle_scales(layout, 1, 2, 4, eight, out); }),
            "[unswizzle_scales] swizzled: expected 1 x 512 bytes, got 8.");
  EXPECT_EQ(message([&] { merge_scales(layout, 2, 2, 4, out, out); }),
            "[merge_scales] in: expected 2 x 512 bytes, got 512.");
  EXPECT_EQ(message([&] { swizzle_scales(layout, -1, 2, 4, eight, out); }),
            "[swizzle_scales] batch, rows, cols: expected counts, got -1, 2, 4.");
}

}  // namespace
}  // namespace switchyard::ops
