#include "checkpoint/cells.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace switchyard::checkpoint {
namespace {

constexpr std::int64_t kBandRows = 64;  // stored rows of a transposition: their lines stay in L1

/// to[c, r] = from[r, c] for `rows` x `cols` cells of kBytes; `from` rows are `pitch` cells apart
/// and every `step`-th cell of them counts.
template <int kBytes>
void transpose(const std::byte* from, std::int64_t rows, std::int64_t cols, std::int64_t pitch,
               std::int64_t step, std::byte* to, std::int64_t to_stride) {
  for (std::int64_t c = 0; c < cols; ++c)
    for (std::int64_t r = 0; r < rows; ++r)
      std::memcpy(to + c * to_stride + r * kBytes, from + (r * pitch + c * step) * kBytes, kBytes);
}

void transpose(std::int64_t cell_bytes, const std::byte* from, std::int64_t rows, std::int64_t cols,
               std::int64_t pitch, std::int64_t step, std::byte* to, std::int64_t to_stride) {
  switch (cell_bytes) {
    case 1:
      return transpose<1>(from, rows, cols, pitch, step, to, to_stride);
    case 2:
      return transpose<2>(from, rows, cols, pitch, step, to, to_stride);
    case 4:
      return transpose<4>(from, rows, cols, pitch, step, to, to_stride);
    default:
      SWITCHYARD_ASSERT(cell_bytes == 1 || cell_bytes == 2 || cell_bytes == 4);
  }
}

}  // namespace

Place cell_place(const Grid& grid, std::int64_t expert) {
  const bool numbered = grid.leaf->per_expert;
  Place place = grid.leaf->places[static_cast<std::size_t>(numbered ? expert : 0)];
  const std::int64_t matrix_bytes = grid.out_cells * grid.in_cells * grid.cell_bytes;
  // A fused tensor with one matrix's bytes holds one value for all experts.
  if (grid.holder == Holder::fused && grid.leaf->bytes() > matrix_bytes)
    place.begin += expert * matrix_bytes;
  return place;
}

void read_bands(Reads& reads, const Grid& grid, const Rectangle& rectangle, const Band& then) {
  const Place place = cell_place(grid, rectangle.expert);
  const std::int64_t span = (rectangle.rows - 1) * rectangle.step + 1;
  if (rectangle.rows <= 0 || rectangle.cols <= 0) return;
  if (!grid.columns) SWITCHYARD_ASSERT(rectangle.step == 1);
  const std::int64_t stored_rows = grid.columns ? rectangle.cols : rectangle.rows;
  const std::int64_t row0 = grid.columns ? rectangle.col : rectangle.first;
  const std::int64_t col0 = grid.columns ? rectangle.first : rectangle.col;
  const std::int64_t cells = grid.columns ? span : rectangle.cols;
  const std::int64_t pitch = (grid.columns ? grid.out_cells : grid.in_cells) * grid.cell_bytes;
  for (std::int64_t row = 0; row < stored_rows; row += kBandRows) {
    Read read;
    read.shard = place.shard;
    read.begin = place.begin + (row0 + row) * pitch + col0 * grid.cell_bytes;
    read.rows = std::min(kBandRows, stored_rows - row);
    read.row_bytes = cells * grid.cell_bytes;
    read.stride = pitch;
    read.then = [then, row, count = read.rows](const std::byte* bytes) { then(bytes, row, count); };
    reads.add(std::move(read));
  }
}

void read_cells(Reads& reads, const Grid& grid, const Rectangle& rectangle, std::byte* to,
                std::int64_t to_stride) {
  if (grid.columns) {
    const std::int64_t bytes = grid.cell_bytes, step = rectangle.step, rows = rectangle.rows;
    read_bands(reads, grid, rectangle,
               [=](const std::byte* cells, std::int64_t first, std::int64_t count) {
                 transpose(bytes, cells, count, rows, (rows - 1) * step + 1, step,
                           to + first * bytes, to_stride);
               });
    return;
  }
  const Place place = cell_place(grid, rectangle.expert);
  const std::int64_t pitch = grid.in_cells * grid.cell_bytes;
  Read read;
  read.shard = place.shard;
  read.begin = place.begin + rectangle.first * pitch + rectangle.col * grid.cell_bytes;
  read.rows = rectangle.rows;
  read.row_bytes = rectangle.cols * grid.cell_bytes;
  read.stride = pitch * rectangle.step;
  read.to = to;
  read.to_stride = to_stride;
  reads.add(std::move(read));
}

void read_interleaved_columns(Reads& reads, const Grid& grid, const Rectangle& rectangle,
                              std::byte* to, std::byte* to2, std::int64_t to_stride) {
  SWITCHYARD_ASSERT(grid.columns && rectangle.step == 1 && rectangle.rows % 2 == 0);
  const std::int64_t bytes = grid.cell_bytes, rows = rectangle.rows;
  read_bands(
      reads, grid, rectangle, [=](const std::byte* cells, std::int64_t first, std::int64_t count) {
        transpose(bytes, cells, count, rows / 2, rows, 2, to + first * bytes, to_stride);
        transpose(bytes, cells + bytes, count, rows / 2, rows, 2, to2 + first * bytes, to_stride);
      });
}

}  // namespace switchyard::checkpoint
