#include "ops/repack/tiles.h"

#include <algorithm>

#include "base/check.h"
#include "base/math.h"

namespace switchyard::repack {
namespace {

constexpr int kRows = 128, kColumns = 64, kChunk = 8;

int row_tiles(const Matrix& m) {
  return ceil_div(m.out, kRows);
}
int column_tiles(const Matrix& m) {
  return ceil_div(m.in, kColumns);
}

/// The matrix row at position `r` of row tile `tile`; -1 beyond the matrix.
int source_row(const Matrix& m, int tile, int r) {
  if (m.order == RowOrder::plain) {
    const int row = tile * kRows + r;
    return row < m.out ? row : -1;
  }
  const int half = m.out / 2, i = tile * (kRows / 2) + r / 16 * 8 + r % 8;
  if (i >= half) return -1;
  return r % 16 < 8 ? i : half + i;
}

/// Calls f(chunk's index in the tiles, row or -1, first column) for every chunk of 8 elements.
template <class F>
void for_each_chunk(const Matrix& m, const F& f) {
  std::size_t tile_begin = 0;
  for (int tile = 0; tile < row_tiles(m); ++tile)
    for (int k = 0; k < column_tiles(m); ++k, tile_begin += kRows * kColumns)
      for (int r = 0; r < kRows; ++r)
        for (int c = 0; c < kColumns / kChunk; ++c)
          f(tile_begin + static_cast<std::size_t>(r * kColumns + (c ^ (r % 8)) * kChunk),
            source_row(m, tile, r), k * kColumns + c * kChunk);
}

void check_sizes(const Matrix& m, std::size_t rows, std::size_t tiles) {
  SWITCHYARD_ASSERT(m.order == RowOrder::plain || m.out % 2 == 0);
  SWITCHYARD_ASSERT(rows == static_cast<std::size_t>(m.out) * static_cast<std::size_t>(m.in));
  SWITCHYARD_ASSERT(static_cast<std::int64_t>(tiles * sizeof(std::uint16_t)) == tiled_bytes(m));
}

}  // namespace

std::int64_t tiled_bytes(const Matrix& m) noexcept {
  return std::int64_t{row_tiles(m)} * column_tiles(m) * kRows * kColumns * 2;
}

void pack(const Matrix& m, std::span<const std::uint16_t> rows, std::span<std::uint16_t> tiles) {
  check_sizes(m, rows.size(), tiles.size());
  for_each_chunk(m, [&](std::size_t at, int row, int column) {
    const int count = row < 0 ? 0 : std::clamp(m.in - column, 0, kChunk);
    const std::uint16_t* from = rows.data() + static_cast<std::ptrdiff_t>(row) * m.in + column;
    std::fill(std::copy_n(from, count, tiles.data() + at), tiles.data() + at + kChunk,
              std::uint16_t{0});
  });
}

void unpack(const Matrix& m, std::span<const std::uint16_t> tiles, std::span<std::uint16_t> rows) {
  check_sizes(m, rows.size(), tiles.size());
  for_each_chunk(m, [&](std::size_t at, int row, int column) {
    if (row < 0) return;
    std::copy_n(tiles.data() + at, std::clamp(m.in - column, 0, kChunk),
                rows.data() + static_cast<std::ptrdiff_t>(row) * m.in + column);
  });
}

}  // namespace switchyard::repack
