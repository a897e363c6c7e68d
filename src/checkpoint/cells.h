#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "checkpoint/projection.h"
#include "checkpoint/reads.h"

namespace switchyard::checkpoint {

/// A tensor as a grid of cells: a cell is the bytes that hold `rows_per_cell` x `cols_per_cell`
/// values of the matrix [out, in].
struct Grid {
  const Leaf* leaf = nullptr;
  Holder holder = Holder::single;
  bool columns = false;  ///< stored [in, out]
  std::int64_t out_cells = 0, in_cells = 0;
  std::int64_t cell_bytes = 0;
};

/// A rectangle of cells of one expert: rows first, first + step, ...
struct Rectangle {
  std::int64_t expert = 0;
  std::int64_t first = 0, step = 1, rows = 0;
  std::int64_t col = 0, cols = 0;
};

/// Where the cell [0, 0] of an expert's grid is. A tensor of one matrix serves every expert.
Place cell_place(const Grid& grid, std::int64_t expert);

/// Reads a rectangle to `to`, row-major with rows `to_stride` bytes apart.
void read_cells(Reads& reads, const Grid& grid, const Rectangle& rectangle, std::byte* to,
                std::int64_t to_stride);

/// Reads a rectangle of a grid that is stored by columns and whose rows interleave two matrices:
/// row 2i goes to row i of `to`, row 2i + 1 to row i of `to2`.
void read_interleaved_columns(Reads& reads, const Grid& grid, const Rectangle& rectangle,
                              std::byte* to, std::byte* to2, std::int64_t to_stride);

/// Reads a rectangle and calls `then` with its cells, in the order of the file: [rows, cols], or
/// [cols, rows] if the grid is stored by columns. Large ones come in bands of the stored rows,
/// each with the index of its first; a band begins at a multiple of 64.
using Band = std::function<void(const std::byte* cells, std::int64_t first, std::int64_t count)>;
void read_bands(Reads& reads, const Grid& grid, const Rectangle& rectangle, const Band& then);

}  // namespace switchyard::checkpoint
