#include "ops/repack/tiles.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <numeric>
#include <vector>

namespace switchyard::repack {
namespace {

std::vector<std::uint16_t> counted(const Matrix& m) {
  std::vector<std::uint16_t> rows(static_cast<std::size_t>(m.out) * static_cast<std::size_t>(m.in));
  std::iota(rows.begin(), rows.end(), std::uint16_t{1});
  return rows;
}

std::vector<std::uint16_t> packed(const Matrix& m, std::span<const std::uint16_t> rows) {
  std::vector<std::uint16_t> tiles(static_cast<std::size_t>(tiled_bytes(m)) / 2, 0xd5d5);
  pack(m, rows, tiles);
  return tiles;
}

TEST(Tiles, SwizzlesChunksByRow) {
  const Matrix m = {.out = 2, .in = 64, .order = RowOrder::plain};
  const std::vector<std::uint16_t> tiles = packed(m, counted(m));
  ASSERT_EQ(tiles.size(), 128U * 64U);
  EXPECT_EQ(tiles[0], 1);            // row 0, chunk 0
  EXPECT_EQ(tiles[64 + 8], 65);      // row 1, chunk 0 lies at chunk 1
  EXPECT_EQ(tiles[64], 64 + 8 + 1);  // and chunk 1 at chunk 0
  EXPECT_EQ(tiles[128], 0);          // row 2 is beyond the matrix
}

TEST(Tiles, GateAndUpRowsAlternateInEights) {
  const Matrix m = {.out = 32, .in = 8, .order = RowOrder::gate_up};  // I = 16
  const std::vector<std::uint16_t> rows = counted(m), tiles = packed(m, rows);
  const auto first_of = [&](int r) { return tiles[static_cast<std::size_t>(r * 64 + r % 8 * 8)]; };
  EXPECT_EQ(first_of(0), rows[0]);               // gate 0
  EXPECT_EQ(first_of(7), rows[7 * 8]);           // gate 7
  EXPECT_EQ(first_of(8), rows[16 * 8]);          // up 0
  EXPECT_EQ(first_of(16), rows[8 * 8]);          // gate 8
  EXPECT_EQ(first_of(31), rows[(16 + 15) * 8]);  // up 15
  EXPECT_EQ(first_of(32), 0);
}

RC_GTEST_PROP(Tiles, UnpackReturnsTheBytes, ()) {
  Matrix m;
  m.order = *rc::gen::element(RowOrder::plain, RowOrder::gate_up);
  m.out = 2 * *rc::gen::inRange(1, 150);
  m.in = *rc::gen::inRange(1, 200);
  const std::vector<std::uint16_t> rows = counted(m), tiles = packed(m, rows);
  std::vector<std::uint16_t> back(rows.size());
  unpack(m, tiles, back);
  RC_ASSERT(back == rows);
}

}  // namespace
}  // namespace switchyard::repack
