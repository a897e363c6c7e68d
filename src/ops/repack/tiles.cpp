#include "ops/repack/tiles.h"

#include <algorithm>

#include "base/check.h"

namespace switchyard::repack {
namespace {

/// Calls f(first element of the chunk in the tiles, its run of the matrix) for every chunk.
template <class F>
void for_each_chunk(const Matrix& m, const F& f) {
  std::ptrdiff_t at = 0;
  for (int tile = 0; tile < tile_count(m); ++tile)
    for (uint32 place = 0; place < kTileChunks; ++place, at += kChunk)
      f(at, source_run(m, tile, place));
}

void check_sizes(const Matrix& m, std::size_t rows, std::size_t tiles) {
  SWITCHYARD_ASSERT(m.order == RowOrder::plain || m.out % 2 == 0);
  SWITCHYARD_ASSERT(rows == static_cast<std::size_t>(m.out) * static_cast<std::size_t>(m.in));
  SWITCHYARD_ASSERT(static_cast<std::int64_t>(tiles * sizeof(std::uint16_t)) == tiled_bytes(m));
}

}  // namespace

std::int64_t tiled_bytes(const Matrix& m) noexcept {
  return std::int64_t{tile_count(m)} * kTileChunks * static_cast<std::int64_t>(sizeof(Chunk));
}

void pack(const Matrix& m, std::span<const std::uint16_t> rows, std::span<std::uint16_t> tiles) {
  check_sizes(m, rows.size(), tiles.size());
  for_each_chunk(m, [&](std::ptrdiff_t at, const Run& run) {
    std::uint16_t* chunk = tiles.data() + at;
    std::fill(std::copy_n(rows.data() + run.first, run.count, chunk), chunk + kChunk,
              std::uint16_t{0});
  });
}

void unpack(const Matrix& m, std::span<const std::uint16_t> tiles, std::span<std::uint16_t> rows) {
  check_sizes(m, rows.size(), tiles.size());
  for_each_chunk(m, [&](std::ptrdiff_t at, const Run& run) {
    std::copy_n(tiles.data() + at, run.count, rows.data() + run.first);
  });
}

}  // namespace switchyard::repack
