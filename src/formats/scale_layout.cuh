#pragma once

#include "device/types.cuh"

// Where the one-byte scale of (row, col) lies among [rows, cols] block scales. A swizzled layout
// is made of tiles that a tensor core reads at once; tiles of one row of tiles are consecutive,
// padding is zero, and matrices of a batch follow each other whole.
//
//   linear   row * cols + col
//   128x4    512-byte tiles: row % 32 sixteen-byte lines, in each four rows 32 apart, four columns
//   8x4      32-byte tiles, row-major
namespace switchyard::formats {

SWITCHYARD_BOTH constexpr int64 tiles(int64 count, int64 tile) {
  return (count + tile - 1) / tile;
}

SWITCHYARD_BOTH constexpr int64 offset_linear(int64 row, int64 col, int64 cols) {
  return row * cols + col;
}

SWITCHYARD_BOTH constexpr int64 offset_128x4(int64 row, int64 col, int64 cols) {
  const int64 tile = row / 128 * tiles(cols, 4) + col / 4;
  return tile * 512 + row % 32 * 16 + row % 128 / 32 * 4 + col % 4;
}

SWITCHYARD_BOTH constexpr int64 offset_8x4(int64 row, int64 col, int64 cols) {
  const int64 tile = row / 8 * tiles(cols, 4) + col / 4;
  return tile * 32 + row % 8 * 4 + col % 4;
}

SWITCHYARD_BOTH constexpr int64 bytes_linear(int64 rows, int64 cols) {
  return rows * cols;
}

SWITCHYARD_BOTH constexpr int64 bytes_128x4(int64 rows, int64 cols) {
  return tiles(rows, 128) * tiles(cols, 4) * 512;
}

SWITCHYARD_BOTH constexpr int64 bytes_8x4(int64 rows, int64 cols) {
  return tiles(rows, 8) * tiles(cols, 4) * 32;
}

}  // namespace switchyard::formats
