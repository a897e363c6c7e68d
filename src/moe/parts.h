#pragma once

#include <cstdint>

#include "switchyard/weights.h"

/// Tensor-parallel parts of quantised matrices: bytes are copied, nothing is quantised again.
namespace switchyard::moe {

struct Range {
  std::int64_t first = 0, count = 0;
};

/// Rank's share of an extent in whole `unit`s; shares differ by one unit at most.
/// Throws InvalidArgument if the extent is not whole units, or has fewer units than ranks.
Range share(std::int64_t extent, std::int64_t unit, int rank, int ranks);

/// The step in which I can be split: rows of `gate_up` in each part, and columns of `down`.
std::int64_t split_unit(const WeightFormat& format) noexcept;

/// Rows `range` of each of `parts` equal parts (gate and up).
ExpertMatrix slice_rows(const ExpertMatrix& matrix, int parts, Range range);
/// Columns `range`; the bias is copied whole.
ExpertMatrix slice_columns(const ExpertMatrix& matrix, Range range);

}  // namespace switchyard::moe
