#include "device/fp4.cuh"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "formats/bf16.cuh"
#include "formats/fp4.cuh"
#include "formats/fp8.cuh"
#include "ops/repack/fp4.cuh"

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
    else
      ASSERT_EQ(std::ldexp(expanded, -119), scale) << code;
  }
}

TEST(Fp4, EveryExponentComesBack) {
  for (const int shift : {0, 1, 119})
    for (int code = 0; code < 0x100; ++code) {
      const auto e8m0 = static_cast<uint8>(code);
      const uint8 stored = repack::encode_scale(Weights::mxfp4, e8m0, shift);
      ASSERT_EQ(repack::decode_scale(Weights::mxfp4, stored, shift), e8m0);
    }
}

/// All 16 x 127 products of codes and scales are bf16: rounding has nothing to do.
TEST(Fp4, WeightsAreExactInBf16) {
  for (int code = 0; code < 16; ++code)
    for (int scale = 0; scale < 0x7f; ++scale) {
      const float weight = formats::decode_e2m1(static_cast<uint8>(code)) *
                           formats::decode_e4m3(static_cast<uint8>(scale));
      const auto words = words_with(static_cast<uint8>(code), 0, 3, 1);
      const float spread = half_of(spread_fp4(words[0], words[1]).even[3], 1);
      const float factor = half_of(expand_scales(encode_scale(static_cast<uint8>(scale))), 0);
      const float product = spread * factor * kFp4Factor;
      ASSERT_EQ(product, weight);
      ASSERT_EQ(formats::decode_bf16(formats::encode_bf16(spread * factor)), spread * factor);
    }
}

TEST(Fp4, JoinIsTheInverseOfSpread) {
  std::mt19937 random(1);
  for (int i = 0; i < 10000; ++i) {
    const auto even = static_cast<uint32>(random()), odd = static_cast<uint32>(random());
    uint32 back[2] = {};
    join_fp4(spread_fp4(even, odd), back[0], back[1]);
    ASSERT_EQ(back[0], even);
    ASSERT_EQ(back[1], odd);
  }
  for (uint32 codes = 0; codes < 256; ++codes) ASSERT_EQ(narrow_fp4(widen_fp4(codes)), codes);
}

TEST(Fp4, ExponentsExpandExactly) {
  for (int scale = 9; scale <= 135; ++scale) {
    const uint32 code = repack::encode_scale(Weights::mxfp4, static_cast<uint8>(scale), 0);
    EXPECT_EQ(std::ldexp(half_of(expand_exponents(code), 0), -119), std::ldexp(1.0F, scale - 127));
    // With the smallest code still no subnormal.
    EXPECT_TRUE(std::isnormal(std::ldexp(0.5F, -126) * half_of(expand_exponents(code), 0)));
  }
}

using repack::kFp4Threads, repack::Matrix, repack::RowOrder;

/// Random weights of a matrix, and its tiles.
template <Weights kWeights>
struct Packed {
  static constexpr int kBlock = repack::fp4_block(kWeights);
  static constexpr auto kBytes = static_cast<std::size_t>(tile_bytes(kWeights));
  const Matrix m;
  const std::size_t elements = static_cast<std::size_t>(m.out) * static_cast<std::size_t>(m.in);
  const int count = tile_count(m);
  std::vector<uint8> codes = std::vector<uint8>(elements / 2),
                     scales = std::vector<uint8>(elements / kBlock);
  std::vector<uint32> tiles =
      std::vector<uint32>(static_cast<std::size_t>(count) * kBytes / 4, 0xd5d5d5d5);

  explicit Packed(const Matrix& matrix) : m(matrix) {
    std::mt19937 random(7);
    for (uint8& c : codes) c = static_cast<uint8>(random());
    for (uint8& s : scales)
      s = static_cast<uint8>(kWeights == Weights::nvfp4 ? random() % 0x7f : 9 + random() % 127);
    for (std::size_t i = 0; i < scales.size(); i += 5)  // codes of zero scales are kept too
      if (kWeights == Weights::nvfp4) scales[i] = 0;
    for (int tile = 0; tile < count; ++tile)
      for (int thread = 0; thread < kFp4Threads; ++thread)
        repack::pack_fp4<kWeights>(m, {codes.data(), scales.data()}, 0, tile, thread, at(tile));
  }
  uint8* at(int tile) {
    return reinterpret_cast<uint8*>(tiles.data()) + static_cast<std::size_t>(tile) * kBytes;
  }

  void expect_unpacked() {
    std::vector<uint8> back_codes(codes.size(), 0xd5), back_scales(scales.size(), 0xd5);
    for (int tile = 0; tile < count; ++tile)
      for (int thread = 0; thread < kFp4Threads; ++thread)
        repack::unpack_fp4<kWeights>(m, at(tile), 0, tile, thread,
                                     {back_codes.data(), back_scales.data()});
    EXPECT_EQ(back_codes, codes);
    EXPECT_EQ(back_scales, scales);
  }

  float weight(int row, int column) const {
    if (row < 0 || column >= m.in) return 0;
    const std::int64_t place = std::int64_t{row} * m.in + column;
    const uint8 scale = scales[static_cast<std::size_t>(place / kBlock)];
    return formats::decode_e2m1(formats::nibble(codes.data(), place)) *
           (kWeights == Weights::nvfp4 ? formats::decode_e4m3(scale)
                                       : std::ldexp(1.0F, scale - 127));
  }

  /// What a thread of the tensor cores' operand finds, by the layout of PTX: registers a0 .. a3.
  void expect_found() {
    for (int tile = 0; tile < count; ++tile)
      for (int thread = 0; thread < kFp4Threads; ++thread)
        for (int half = 0; half < 2; ++half)
          for (int group = 0; group < 4; ++group) {
            const uint32* words = reinterpret_cast<const uint32*>(at(tile)) +
                                  (half * kFp4Threads + thread) * 4 + group / 2 * 2;
            const Fp4Pairs pairs = spread_fp4(words[0], words[1]);
            for (int p = 0; p < 4; ++p)
              for (int c = 0; c < 2; ++c) {
                const int in_tile = half * 64 + thread / 32 * 16 + thread % 32 / 4 + p % 2 * 8;
                const int row = source_row(m, tile / column_tiles(m), static_cast<uint32>(in_tile));
                const int column =
                    tile % column_tiles(m) * 64 + group * 16 + p / 2 * 8 + thread % 4 * 2 + c;
                const uint32 code =
                    at(tile)[repack::fp4_scale_at(kWeights, thread, half, group, p % 2)];
                const float scale = half_of(
                    kWeights == Weights::nvfp4 ? expand_scales(code) : expand_exponents(code), 0);
                const float found =
                    half_of((group % 2 ? pairs.odd : pairs.even)[p], c) * scale * kFp4Factor;
                ASSERT_EQ(found, weight(row, column))
                    << tile << " " << thread << " " << half << group << p << c;
              }
          }
  }
};

class Fp4Tiles : public testing::TestWithParam<Matrix> {};

/// Whether rows are whole blocks of MXFP4.
bool takes_mxfp4(const Matrix& m) {
  return m.in % repack::fp4_block(Weights::mxfp4) == 0;
}

TEST_P(Fp4Tiles, UnpackReturnsTheBytes) {
  Packed<Weights::nvfp4>(GetParam()).expect_unpacked();
  if (takes_mxfp4(GetParam())) Packed<Weights::mxfp4>(GetParam()).expect_unpacked();
}

TEST_P(Fp4Tiles, ThreadsFindTheirWeights) {
  Packed<Weights::nvfp4>(GetParam()).expect_found();
  if (takes_mxfp4(GetParam())) Packed<Weights::mxfp4>(GetParam()).expect_found();
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Fp4Tiles,
    testing::Values(Matrix{128, 64, RowOrder::plain}, Matrix{130, 96, RowOrder::plain},
                    Matrix{24, 32, RowOrder::plain}, Matrix{1, 16, RowOrder::plain},
                    Matrix{129, 208, RowOrder::plain}, Matrix{176, 160, RowOrder::gate_up}));

}  // namespace
}  // namespace switchyard::device
