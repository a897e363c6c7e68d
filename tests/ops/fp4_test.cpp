#include "device/fp4.cuh"

#include <gtest/gtest.h>

#include <cmath>

#include "formats/bf16.cuh"
#include "formats/fp4.cuh"
#include "formats/fp8.cuh"

namespace switchyard::device {
namespace {

/// The word pair that holds `code` at one place and zeros elsewhere.
std::array<uint32, 2> words_with(uint8 code, int group, int pair, int column) {
  std::array<uint32, 2> words = {};
  for (int bit = 0; bit < 4; ++bit) {
    const Fp4Bit place = place_of(group, pair, column, bit);
    words[static_cast<std::size_t>(place.word)] |= static_cast<uint32>(code >> bit & 1)
                                                   << place.bit;
  }
  return words;
}

float half_of(uint32 word, int column) {
  return formats::decode_bf16(static_cast<uint16>(word >> (16 * column)));
}

TEST(Fp4, EveryCodeAtEveryPlaceIsFoundAloneAndExactly) {
  for (int group = 0; group < 2; ++group)
    for (int pair = 0; pair < 4; ++pair)
      for (int column = 0; column < 2; ++column)
        for (int code = 0; code < 16; ++code) {
          const auto words = words_with(static_cast<uint8>(code), group, pair, column);
          const Fp4Pairs found = spread_fp4(words[0], words[1]);
          for (int g = 0; g < 2; ++g)
            for (int p = 0; p < 4; ++p)
              for (int c = 0; c < 2; ++c) {
                const float value = half_of((g == 0 ? found.even : found.odd)[p], c);
                const bool here = g == group && p == pair && c == column;
                const float weight = here ? formats::decode_e2m1(static_cast<uint8>(code)) : 0;
                ASSERT_EQ(std::ldexp(value, 126), weight) << group << pair << column << code;
                ASSERT_EQ(std::signbit(value), std::signbit(weight));
              }
        }
}

TEST(Fp4, PlacesShareNoBit) {
  uint32 used[2] = {};
  for (int group = 0; group < 2; ++group)
    for (int pair = 0; pair < 4; ++pair)
      for (int column = 0; column < 2; ++column)
        for (int bit = 0; bit < 4; ++bit) {
          const Fp4Bit place = place_of(group, pair, column, bit);
          const uint32 mask = 1U << place.bit;
          ASSERT_EQ(used[place.word] & mask, 0U);
          used[place.word] |= mask;
        }
  EXPECT_EQ(used[0], ~0U);
  EXPECT_EQ(used[1], ~0U);
}

TEST(Fp4, ScalesComeBackAndExpandExactly) {
  for (int code = 0; code < 0x80; ++code) {
    const auto e4m3 = static_cast<uint8>(code);
    const uint8 stored = encode_scale(e4m3);
    ASSERT_EQ(decode_scale(stored), e4m3);
    const float scale = formats::decode_e4m3(e4m3);
    const uint32 pair = expand_scales(stored | static_cast<uint32>(stored) << 16);
    ASSERT_EQ(pair & 0xffff, pair >> 16);
    const float expanded = half_of(pair, 0);
    if (std::isnan(scale))
      ASSERT_TRUE(std::isnan(expanded));
    else if (scale != 0)
      ASSERT_EQ(std::ldexp(expanded, -119), scale) << code;
  }
}

/// All 16 x 127 products of codes and scales are bf16: rounding has nothing to do.
TEST(Fp4, WeightsAreExactInBf16) {
  for (int code = 0; code < 16; ++code)
    for (int scale = 1; scale < 0x7f; ++scale) {
      const float weight = formats::decode_e2m1(static_cast<uint8>(code)) *
                           formats::decode_e4m3(static_cast<uint8>(scale));
      const auto words = words_with(static_cast<uint8>(code), 0, 3, 1);
      const float spread = half_of(spread_fp4(words[0], words[1]).even[3], 1);
      const float factor =
          half_of(expand_scales(encode_scale(static_cast<uint8>(scale))), 0);
      const float product = spread * factor * kNvfp4Factor;
      ASSERT_EQ(product, weight);
      ASSERT_EQ(formats::decode_bf16(formats::encode_bf16(spread * factor)), spread * factor);
    }
}

}  // namespace
}  // namespace switchyard::device
