// What host and device share of repacking: which element of a matrix lies where in its tiles.
#pragma once

#include "device/types.cuh"

namespace switchyard::repack {

/// What a tile's 128 rows are.
enum class RowOrder : int {
  plain,    ///< rows 128 t, 128 t + 1, ...
  gate_up,  ///< of [2I, in]: 8 gate rows, then their 8 up rows, and so on; 64 of each a tile
};

struct Matrix {
  int out = 0, in = 0;  ///< rows (2I for gate_up) and columns
  RowOrder order = RowOrder::plain;
};

inline constexpr int kTileRows = 128, kTileColumns = 64;
inline constexpr int kChunk = 8;  ///< elements that stay together: 16 bytes
inline constexpr int kRowChunks = kTileColumns / kChunk;
inline constexpr int kTileChunks = kTileRows * kRowChunks;

struct alignas(16) Chunk {
  uint32 words[kChunk / 2];
};

SWITCHYARD_BOTH constexpr int column_tiles(const Matrix& m) {
  return (m.in + kTileColumns - 1) / kTileColumns;
}
/// Of the whole matrix.
SWITCHYARD_BOTH constexpr int tile_count(const Matrix& m) {
  return (m.out + kTileRows - 1) / kTileRows * column_tiles(m);
}

/// The matrix row at position `r` of row tile `tile`; -1 beyond the matrix.
SWITCHYARD_BOTH constexpr int source_row(const Matrix& m, int tile, uint32 r) {
  if (m.order == RowOrder::plain) {
    const int row = tile * kTileRows + static_cast<int>(r);
    return row < m.out ? row : -1;
  }
  const int half = m.out / 2;
  const int i = tile * (kTileRows / 2) + static_cast<int>(r / 16 * 8 + r % 8);
  if (i >= half) return -1;
  return r % 16 < 8 ? i : half + i;
}

/// Elements of a matrix [out, in] that stand side by side; those of a chunk beyond it are zeros.
struct Run {
  int64 first;
  int count;
};

/// What the chunk at `place` (0 .. kTileChunks) of tile `tile` holds.
SWITCHYARD_BOTH constexpr Run source_run(const Matrix& m, int tile, uint32 place) {
  const uint32 r = place / kRowChunks, c = place % kRowChunks ^ r % kRowChunks;
  const int row = source_row(m, tile / column_tiles(m), r);
  const int column = tile % column_tiles(m) * kTileColumns + static_cast<int>(c) * kChunk;
  if (row < 0 || column >= m.in) return {0, 0};
  const int left = m.in - column;
  return {static_cast<int64>(row) * m.in + column, left < kChunk ? left : kChunk};
}

/// The kernel's only parameter.
struct Args {
  uint16* rows;  // [E, out, in]  read by pack, written by unpack
  Chunk* tiles;  // [E, tile_count(matrix), kTileChunks]  the other way round
  Matrix matrix;
};

/// The only parameter of `norm`.
struct NormArgs {
  const Chunk* tiles;    // [E, row tiles, column_tiles, kTileChunks]
  uint32* norms;         // [E, 2]  f32, the first of each; 0 at launch
  const float* factors;  // [E, 2]  of packed weights, the first counts
  int column_tiles;
};

enum class Direction : int { pack, unpack };

struct Config {
  Direction direction;
  static constexpr int kThreads = 256;
  static constexpr int kPerThread = kTileChunks / kThreads;
};

}  // namespace switchyard::repack
