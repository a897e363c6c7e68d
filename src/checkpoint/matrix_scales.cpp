#include "checkpoint/matrix_load.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/check.h"
#include "base/math.h"
#include "checkpoint/cells.h"
#include "formats/convert.h"

namespace switchyard::checkpoint {

void MatrixReader::read_scales() {
  const StoredMatrix& m = first();
  const ScaleBlock block = scale_block(to_.format, out_, s_.cols);
  if (to_.format.scale_rows != 1 || m.scale_rows != 1 ||
      (*dtype_of(m.scales->type) != to_.format.scale && m.scales->type != StoredType::U8)) {
    read_block_scales(block);
    return;
  }
  // One a row and group, in the type we keep: copied as they are.
  // With act order a column's group may be any: all scales are needed.
  const bool all = m.groups || m.scale_cols == 0;
  const std::int64_t col = all ? 0 : s_.col / m.scale_cols;
  const std::int64_t groups = m.scale_cols == 0 ? 1 : m.in / m.scale_cols;
  const std::int64_t cols = all ? groups : ceil_div(s_.cols, m.scale_cols);
  to_.scales = Tensor(to_.format.scale, {s_.experts, out_, cols});
  for (std::int64_t part = 0; part < parts_; ++part)
    for (std::int64_t e = 0; e < s_.experts; ++e) {
      const StoredMatrix& pm = part_rows(part).matrix;
      read_plane({pm.scales, pm.holder, pm.columns, pm.out, groups, bits(m.scales->type) / 8}, part,
                 e, col, cols, to_.scales);
    }
}

void MatrixReader::read_block_scales(ScaleBlock block) {
  const std::int64_t rows = s_.rows * parts_ / block.rows + (s_.rows * parts_ % block.rows != 0);
  const std::int64_t cols = ceil_div(s_.cols, block.cols);
  to_.scales = Tensor(to_.format.scale, {s_.experts, rows, cols});
  const std::int64_t part_rows_of_scales = ceil_div(rows, parts_);
  for (std::int64_t part = 0; part < parts_; ++part)
    for (std::int64_t e = 0; e < s_.experts; ++e)
      read_block_scales_of(part, e, block, part_rows_of_scales, rows, cols);
}

void MatrixReader::read_block_scales_of(std::int64_t part, std::int64_t e, ScaleBlock block,
                                        std::int64_t rows_here, std::int64_t all_rows,
                                        std::int64_t cols) {
  const PartRows& rows = part_rows(part);
  const StoredMatrix& m = rows.matrix;
  const std::int64_t high = m.scale_rows > 0 ? m.scale_rows : m.out;
  const std::int64_t wide = m.scale_cols > 0 ? m.scale_cols : m.in;
  const std::int64_t row0 = rows.first + s_.row * rows.step;
  const std::int64_t count = std::min(rows_here, all_rows - part * rows_here);
  Rectangle cells{
      .expert = s_.expert + e, .first = row0 / high, .rows = 0, .col = s_.col / wide, .cols = cols};
  cells.rows = (row0 + (s_.rows - 1) * rows.step) / high - cells.first + 1;
  const Grid grid{m.scales,
                  m.holder,
                  m.columns,
                  ceil_div(m.out, high),
                  ceil_div(m.in, wide),
                  bits(m.scales->type) / 8};
  auto raw = std::make_shared<std::vector<std::byte>>(
      static_cast<std::size_t>(cells.rows * cells.cols * grid.cell_bytes));
  read_cells(reads_, grid, cells, raw->data(), cells.cols * grid.cell_bytes);
  reads_.finally([=, this, type = *dtype_of(m.scales->type)] {
    const std::int64_t at = (e * all_rows + part * rows_here) * cols;
    for (std::int64_t r = 0; r < count; ++r) {
      const std::int64_t from = (row0 + r * block.rows * rows.step) / high - cells.first;
      copy_scales(raw->data(), type, from * cols, cols, at + r * cols);
    }
  });
}

void MatrixReader::copy_scales(const std::byte* from, DType type, std::int64_t index,
                               std::int64_t count, std::int64_t to) {
  if (bits(to_.format.scale) == 8) {
    std::memcpy(to_.scales.as<std::byte>() + to, from + index, static_cast<std::size_t>(count));
    return;
  }
  SWITCHYARD_ASSERT(to_.format.scale == DType::f32);
  // A byte of type U8 is an exponent: no other scheme keeps scales in bytes.
  formats::load_run<float>(type == DType::u8 ? DType::f8_e8m0 : type, from, index, count,
                           to_.scales.as<float>() + to);
}

void MatrixReader::read_scalars(const Leaf* StoredMatrix::*which, std::int64_t first_expert,
                                const Shape& shape, Tensor& to) {
  to = Tensor(DType::f32, shape);
  for (std::int64_t e = 0; e < shape[0]; ++e)
    for (std::int64_t part = 0; part < shape[1]; ++part) {
      const StoredMatrix& m = part_rows(part).matrix;
      const Grid grid{m.*which, m.holder, false, 1, 1, 4};
      read_cells(reads_, grid, {.expert = first_expert + e, .rows = 1, .cols = 1},
                 to.as<std::byte>() + (e * shape[1] + part) * 4, 4);
    }
  if (first().scheme->inverse)
    reads_.finally([&to] {
      for (std::int64_t i = 0; i < to.shape().elements(); ++i)
        to.as<float>()[i] = 1 / to.as<float>()[i];
    });
}

void MatrixReader::read_input_scale() {
  if (parts_ == 2 && !p_.parts[1].matrix.input_scale) return;
  read_scalars(&StoredMatrix::input_scale, 0, {p_.experts, parts_}, to_.input_scale);
  reads_.finally([this] {
    const float* const scales = to_.input_scale.as<float>();
    const bool all = s_.experts == p_.experts;
    Tensor largest(DType::f32, {all ? p_.experts : 1});
    const std::int64_t each = all ? parts_ : p_.experts * parts_;
    for (std::int64_t e = 0; e < largest.shape()[0]; ++e)
      largest.as<float>()[e] = *std::max_element(scales + e * each, scales + (e + 1) * each);
    to_.input_scale = std::move(largest);
  });
}

}  // namespace switchyard::checkpoint
