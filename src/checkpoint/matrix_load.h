#pragma once

#include <utility>

#include "checkpoint/cells.h"
#include "checkpoint/projection.h"
#include "checkpoint/reads.h"

namespace switchyard::checkpoint {

/// One load of one projection: allocates the tensors of an ExpertMatrix and collects the reads
/// that fill them. Steps it leaves with `reads` point to it.
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
    if (first().global)
      read_scalars(&StoredMatrix::global, s_.expert, {s_.experts, parts_}, to_.global_scale);
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
                      std::int64_t col, std::int64_t cols) const;

  /// Reads cells that are stored as we keep them, to `to` [experts, parts * rows, cols].
  void read_plane(const Grid& grid, std::int64_t part, std::int64_t e, std::int64_t col,
                  std::int64_t cols, Tensor& to) const;

  void read_elements(std::int64_t part, std::int64_t e);

  void read_scales();

  /// Scales of blocks, of whole rows or of whole matrices, converted to the format's type and
  /// repeated where our blocks are finer than the file's.
  void read_block_scales(ScaleBlock block);

  void read_block_scales_of(std::int64_t part, std::int64_t e, ScaleBlock block,
                            std::int64_t rows_here, std::int64_t all_rows, std::int64_t cols);

  void copy_scales(const std::byte* from, DType type, std::int64_t index, std::int64_t count,
                   std::int64_t to);

  /// One f32 for each expert and part: `shape` is [experts, parts].
  void read_scalars(const Leaf* StoredMatrix::*which, std::int64_t first_expert, const Shape& shape,
                    Tensor& to);

  /// Gate and up read the same input: the larger scale serves both. A token is rounded once for
  /// all experts, so a slice of them gets one scale: the largest of all, here or on other ranks.
  void read_input_scale();

  /// Zero points are packed along the rows, eight to a word.
  void read_zeros();

  void drop_symmetric_zeros();

  /// Reads `to` [experts, values] from each part in turn; the parts must agree.
  void read_agreeing(const Leaf* StoredMatrix::*which, DType dtype, Tensor& to);

  /// Act order. Groups that simply ascend are left out.
  void read_groups();

  void read_bias();

  Reads& reads_;
  const Projection p_;
  const Slice s_;
  ExpertMatrix& to_;
  std::int64_t parts_, out_;
};

}  // namespace switchyard::checkpoint
