#include "checkpoint/matrix_load.h"

#include "base/math.h"
#include "checkpoint/cells.h"
#include "checkpoint/int4.h"

namespace switchyard::checkpoint {

Rectangle MatrixReader::rectangle(std::int64_t part, std::int64_t e, std::int64_t rows_per_cell,
                                  std::int64_t col, std::int64_t cols) const {
  const PartRows& rows = part_rows(part);
  return {.expert = s_.expert + e,
          .first = (rows.first + s_.row * rows.step) / rows_per_cell,
          .step = rows.step,
          .rows = ceil_div(s_.rows, rows_per_cell),
          .col = col,
          .cols = cols};
}

void MatrixReader::read_plane(const Grid& grid, std::int64_t part, std::int64_t e, std::int64_t col,
                              std::int64_t cols, Tensor& to) const {
  const std::int64_t stride = cols * grid.cell_bytes;
  std::byte* const base = to.as<std::byte>() + (e * out_ + part * s_.rows) * stride;
  Rectangle cells = rectangle(part, e, 1, col, cols);
  if (!grid.columns || cells.step == 1) {
    read_cells(reads_, grid, cells, base, stride);
  } else if (part == 0) {  // columns of interleaved rows hold both parts: read them once
    cells.rows *= 2;
    cells.step = 1;
    read_interleaved_columns(reads_, grid, cells, base, base + s_.rows * stride, stride);
  }
}

void MatrixReader::read_elements(std::int64_t part, std::int64_t e) {
  const StoredMatrix& m = part_rows(part).matrix;
  const std::int64_t stride = s_.cols * bits(to_.format.element) / 8;
  std::byte* const base =
      static_cast<std::byte*>(to_.elements.data()) + (e * out_ + part * s_.rows) * stride;
  switch (m.scheme->encoding) {
    case Encoding::plain: {
      const std::int64_t bytes = bits(m.elements->type) / 8;
      read_plane({m.elements, m.holder, m.columns, m.out, m.in, bytes}, part, e, s_.col, s_.cols,
                 to_.elements);
      break;
    }
    case Encoding::pairs:
      read_plane({m.elements, m.holder, m.columns, m.out, m.in / 2, 1}, part, e, s_.col / 2,
                 s_.cols / 2, to_.elements);
      break;
    case Encoding::signed_pairs: {
      const Grid grid{m.elements, m.holder, false, m.out, m.in / 2, 1};
      read_bands(reads_, grid, rectangle(part, e, 1, s_.col / 2, s_.cols / 2),
                 [=](const std::byte* cells, std::int64_t row, std::int64_t count) {
                   int4::flip_signs(cells, count * stride, base + row * stride);
                 });
      break;
    }
    case Encoding::gptq: {  // a word is 8 columns: transposed words are our rows
      const Grid grid{m.elements, m.holder, true, m.out, m.in / 8, 4};
      read_cells(reads_, grid, rectangle(part, e, 1, s_.col / 8, s_.cols / 8), base, stride);
      break;
    }
    case Encoding::awq: {
      const Grid grid{m.elements, m.holder, true, m.out / 8, m.in, 4};
      const Rectangle words = rectangle(part, e, 8, s_.col, s_.cols);
      read_bands(reads_, grid, words,
                 [=](const std::byte* cells, std::int64_t col, std::int64_t count) {
                   int4::unpack_awq(cells, words.rows, col, count, base, stride);
                 });
      break;
    }
    case Encoding::row_pairs: {
      const Grid grid{m.elements, m.holder, false, m.out / 2, m.in, 1};
      const std::int64_t cols = s_.cols;
      read_bands(reads_, grid, rectangle(part, e, 2, s_.col, s_.cols),
                 [=](const std::byte* cells, std::int64_t row, std::int64_t count) {
                   int4::unpack_row_pairs(cells, cols, 2 * row, count, base, stride);
                 });
      break;
    }
  }
}

}  // namespace switchyard::checkpoint
