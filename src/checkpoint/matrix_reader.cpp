#include "checkpoint/matrix_reader.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/check.h"
#include "base/math.h"
#include "checkpoint/cells.h"
#include "checkpoint/int4.h"
#include "formats/convert.h"

namespace switchyard::checkpoint {
namespace {

/// One load of one projection.
class MatrixReader {
 public:
  MatrixReader(Reads& reads, const Projection& projection, const Slice& slice, ExpertMatrix& to)
      : reads_(reads),
        p_(projection),
        s_(slice),
        to_(to),
        parts_(static_cast<std::int64_t>(projection.parts.size())),
        out_(slice.rows * parts_) {}

  void read() {
    to_.format = format_of(p_, s_.rows);
    to_.elements = Tensor(to_.format.element, {s_.experts, out_, s_.cols});
    for (std::int64_t part = 0; part < parts_; ++part)
      for (std::int64_t e = 0; e < s_.experts; ++e) read_elements(part, e);
    if (to_.format.scaled) read_scales();
    if (first().global) read_scalars(&StoredMatrix::global, parts_, to_.global_scale);
    if (first().zeros) read_zeros();
    if (first().groups) read_groups();
    if (first().input_scale) read_input_scale();
    if (first().input_factor)
      read_agreeing(&StoredMatrix::input_factor, DType::f32, to_.input_factor);
    if (p_.bias[0] && s_.bias) read_bias();
  }

 private:
  const StoredMatrix& first() const { return p_.parts.front().matrix; }
  const PartRows& part_rows(std::int64_t part) const {
    return p_.parts[static_cast<std::size_t>(part)];
  }

  /// Rows of a part's slice, in cells of `rows_per_cell`.
  Rectangle rectangle(std::int64_t part, std::int64_t e, std::int64_t rows_per_cell,
                      std::int64_t col, std::int64_t cols) const {
    const PartRows& rows = part_rows(part);
    return {.expert = s_.expert + e,
            .first = (rows.first + s_.row * rows.step) / rows_per_cell,
            .step = rows.step,
            .rows = ceil_div(s_.rows, rows_per_cell),
            .col = col,
            .cols = cols};
  }

  /// Reads cells that are stored as we keep them, to `to` [experts, parts * rows, cols].
  void read_plane(const Grid& grid, std::int64_t part, std::int64_t e, std::int64_t col,
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

  void read_elements(std::int64_t part, std::int64_t e) {
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

  void read_scales() {
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
        read_plane({pm.scales, pm.holder, pm.columns, pm.out, groups, bits(m.scales->type) / 8},
                   part, e, col, cols, to_.scales);
      }
  }

  /// Scales of blocks, of whole rows or of whole matrices, converted to the format's type and
  /// repeated where our blocks are finer than the file's.
  void read_block_scales(ScaleBlock block) {
    const std::int64_t rows = s_.rows * parts_ / block.rows + (s_.rows * parts_ % block.rows != 0);
    const std::int64_t cols = ceil_div(s_.cols, block.cols);
    to_.scales = Tensor(to_.format.scale, {s_.experts, rows, cols});
    const std::int64_t part_rows_of_scales = ceil_div(rows, parts_);
    for (std::int64_t part = 0; part < parts_; ++part)
      for (std::int64_t e = 0; e < s_.experts; ++e)
        read_block_scales_of(part, e, block, part_rows_of_scales, rows, cols);
  }

  void read_block_scales_of(std::int64_t part, std::int64_t e, ScaleBlock block,
                            std::int64_t rows_here, std::int64_t all_rows, std::int64_t cols) {
    const PartRows& rows = part_rows(part);
    const StoredMatrix& m = rows.matrix;
    const std::int64_t high = m.scale_rows > 0 ? m.scale_rows : m.out;
    const std::int64_t wide = m.scale_cols > 0 ? m.scale_cols : m.in;
    const std::int64_t row0 = rows.first + s_.row * rows.step;
    const std::int64_t count = std::min(rows_here, all_rows - part * rows_here);
    Rectangle cells{.expert = s_.expert + e,
                    .first = row0 / high,
                    .rows = 0,
                    .col = s_.col / wide,
                    .cols = cols};
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

  void copy_scales(const std::byte* from, DType type, std::int64_t index, std::int64_t count,
                   std::int64_t to) {
    if (bits(to_.format.scale) == 8) {
      std::memcpy(to_.scales.as<std::byte>() + to, from + index, static_cast<std::size_t>(count));
      return;
    }
    SWITCHYARD_ASSERT(to_.format.scale == DType::f32);
    // A byte of type U8 is an exponent: no other scheme keeps scales in bytes.
    formats::load_run<float>(type == DType::u8 ? DType::f8_e8m0 : type, from, index, count,
                             to_.scales.as<float>() + to);
  }

  /// One f32 for each expert and part: [experts, count].
  void read_scalars(const Leaf* StoredMatrix::*which, std::int64_t count, Tensor& to) {
    to = Tensor(DType::f32, {s_.experts, count});
    for (std::int64_t e = 0; e < s_.experts; ++e)
      for (std::int64_t part = 0; part < count; ++part) {
        const StoredMatrix& m = part_rows(part).matrix;
        const Grid grid{m.*which, m.holder, false, 1, 1, 4};
        read_cells(reads_, grid, {.expert = s_.expert + e, .rows = 1, .cols = 1},
                   to.as<std::byte>() + (e * count + part) * 4, 4);
      }
    if (first().scheme->inverse)
      reads_.finally([&to] {
        for (std::int64_t i = 0; i < to.shape().elements(); ++i)
          to.as<float>()[i] = 1 / to.as<float>()[i];
      });
  }

  /// Gate and up read the same input: the larger scale serves both.
  void read_input_scale() {
    if (parts_ == 2 && !p_.parts[1].matrix.input_scale) return;
    read_scalars(&StoredMatrix::input_scale, parts_, to_.input_scale);
    reads_.finally([this] {
      Tensor largest(DType::f32, {s_.experts});
      for (std::int64_t e = 0; e < s_.experts; ++e) {
        const float* const scales = to_.input_scale.as<float>() + e * parts_;
        largest.as<float>()[e] = *std::max_element(scales, scales + parts_);
      }
      to_.input_scale = std::move(largest);
    });
  }

  /// Zero points are packed along the rows, eight to a word.
  void read_zeros() {
    const StoredMatrix& m = first();
    const bool all = m.groups || m.scale_cols == 0;
    const std::int64_t stored_groups = m.scale_cols == 0 ? 1 : m.in / m.scale_cols;
    const std::int64_t col = all ? 0 : s_.col / m.scale_cols;
    const std::int64_t groups = all ? stored_groups : ceil_div(s_.cols, m.scale_cols);
    const bool awq = m.scheme->encoding == Encoding::awq;
    const int plus = m.scheme->encoding == Encoding::gptq && !p_.gptq_v2 ? 1 : 0;
    to_.zeros = Tensor(DType::u8, {s_.experts, out_, groups});
    for (std::int64_t part = 0; part < parts_; ++part)
      for (std::int64_t e = 0; e < s_.experts; ++e) {
        const StoredMatrix& pm = part_rows(part).matrix;
        const Grid grid{pm.zeros, pm.holder, pm.columns, pm.out / 8, stored_groups, 4};
        const Rectangle words = rectangle(part, e, 8, col, groups);
        auto* const base = to_.zeros.as<std::uint8_t>() + (e * out_ + part * s_.rows) * groups;
        auto raw = std::make_shared<std::vector<std::uint32_t>>(
            static_cast<std::size_t>(words.rows * groups));
        read_cells(reads_, grid, words, reinterpret_cast<std::byte*>(raw->data()), groups * 4);
        reads_.finally([=] {
          const auto order = awq ? int4::Order::awq : int4::Order::ascending;
          for (std::int64_t i = 0; i < words.rows * 8; ++i)
            for (std::int64_t g = 0; g < groups; ++g)
              base[i * groups + g] =
                  int4::nibble((*raw)[static_cast<std::size_t>(i / 8 * groups + g)],
                               static_cast<int>(i % 8), order, plus);
        });
      }
    if (!to_.format.zero_points) reads_.finally([this] { drop_symmetric_zeros(); });
  }

  void drop_symmetric_zeros() {
    const auto* const begin = to_.zeros.as<std::uint8_t>();
    const auto* const end = begin + to_.zeros.shape().elements();
    require(std::all_of(begin, end, [](std::uint8_t zero) { return zero == 8; }),
            "[checkpoint] {}*.qzeros: expected zero points of 8, as \"sym\": true in config.json "
            "promises, got others. Set it to false.",
            p_.layer->prefix);
    to_.zeros = Tensor();
  }

  /// Reads `to` [experts, values] from each part in turn; the parts must agree.
  void read_agreeing(const Leaf* StoredMatrix::*which, DType dtype, Tensor& to) {
    to = Tensor(dtype, {s_.experts, s_.cols});
    const std::int64_t bytes = bits((first().*which)->type) / 8;
    const DType stored = *dtype_of((first().*which)->type);
    for (std::int64_t part = 0; part < parts_; ++part)
      for (std::int64_t e = 0; e < s_.experts; ++e) {
        const StoredMatrix& m = part_rows(part).matrix;
        auto raw =
            std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(s_.cols * bytes));
        const Grid grid{m.*which, m.holder, false, 1, m.in, bytes};
        read_cells(reads_, grid,
                   {.expert = s_.expert + e, .rows = 1, .col = s_.col, .cols = s_.cols},
                   raw->data(), s_.cols * bytes);
        reads_.finally([=, this, &to] {
          Tensor values(dtype, {s_.cols});
          if (dtype == DType::f32)
            formats::load_run<float>(stored, raw->data(), 0, s_.cols, values.as<float>());
          else
            std::memcpy(values.data(), raw->data(), raw->size());
          std::byte* const row = to.as<std::byte>() + e * s_.cols * 4;
          if (part == 0) std::memcpy(row, values.data(), static_cast<std::size_t>(s_.cols * 4));
          if (std::memcmp(row, values.data(), static_cast<std::size_t>(s_.cols * 4)) != 0)
            throw Unsupported(fmt::format(
                "[checkpoint] tensor '{}': expected the values of gate, got others for up of the "
                "same expert. They read one input: quantise them together.",
                p_.layer->full_name((m.*which)->name, (m.*which)->per_expert,
                                    static_cast<int>(s_.expert + e))));
        });
      }
  }

  /// Act order. Groups that simply ascend are left out.
  void read_groups() {
    read_agreeing(&StoredMatrix::groups, DType::i32, to_.group_of_column);
    reads_.finally([this] {
      const StoredMatrix& m = first();
      const std::int64_t width = m.scale_cols > 0 ? m.scale_cols : m.in;
      bool ascend = s_.cols == m.in;
      for (std::int64_t i = 0; i < to_.group_of_column.shape().elements(); ++i) {
        const std::int64_t group = to_.group_of_column.as<std::int32_t>()[i];
        require(group >= 0 && group < m.in / width,
                "[checkpoint] tensor '{}': expected groups below {}, got {}. The checkpoint is "
                "damaged.",
                p_.layer->full_name(m.groups->name, m.groups->per_expert, 0), m.in / width, group);
        ascend = ascend && group == i % s_.cols / width;
      }
      if (ascend) to_.group_of_column = Tensor();
    });
  }

  void read_bias() {
    to_.bias = Tensor(DType::f32, {s_.experts, out_});
    for (std::int64_t part = 0; part < parts_; ++part)
      for (std::int64_t e = 0; e < s_.experts; ++e) {
        const Leaf& leaf = *p_.bias[part];
        const StoredMatrix& m = part_rows(part).matrix;
        const std::int64_t bytes = bits(leaf.type) / 8;
        auto raw =
            std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(s_.rows * bytes));
        read_cells(reads_, {&leaf, m.holder, false, m.out, 1, bytes}, rectangle(part, e, 1, 0, 1),
                   raw->data(), bytes);
        reads_.finally([this, raw, type = *dtype_of(leaf.type), at = e * out_ + part * s_.rows] {
          formats::load_run<float>(type, raw->data(), 0, s_.rows, to_.bias.as<float>() + at);
        });
      }
  }

  Reads& reads_;
  const Projection p_;
  const Slice s_;
  ExpertMatrix& to_;
  std::int64_t parts_, out_;
};

}  // namespace

void read_matrix(Reads& reads, const Projection& projection, const Slice& slice, ExpertMatrix& to) {
  const auto reader = std::make_shared<MatrixReader>(reads, projection, slice, to);
  reader->read();
  reads.finally([reader] {});  // the steps before this one point to it
}

void read_tensor(Reads& reads, const Leaf& leaf, DType dtype, const Shape& shape, Tensor& to) {
  to = Tensor(dtype, shape);
  const std::int64_t count = shape.elements();
  SWITCHYARD_ASSERT(leaf.shape.elements() == count);
  const DType stored = *dtype_of(leaf.type);
  Read read;
  read.shard = leaf.places.front().shard;
  read.begin = leaf.places.front().begin;
  read.row_bytes = read.stride = read.to_stride = leaf.bytes();
  if (stored == dtype) {
    read.to = to.as<std::byte>();
  } else if (dtype == DType::f32) {
    read.then = [=, &to](const std::byte* bytes) {
      formats::load_run<float>(stored, bytes, 0, count, to.as<float>());
    };
  } else {
    SWITCHYARD_ASSERT(dtype == DType::i32);
    read.then = [=, &to](const std::byte* bytes) {
      for (std::int64_t i = 0; i < count; ++i)
        to.as<std::int32_t>()[i] = static_cast<std::int32_t>(formats::load(stored, bytes, i));
    };
  }
  reads.add(std::move(read));
}

}  // namespace switchyard::checkpoint
