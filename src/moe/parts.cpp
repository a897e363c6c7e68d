#include "moe/parts.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "base/math.h"

namespace switchyard::moe {
namespace {

/// [E, parts * rows.count, cols.count] of `tensor` [E, out, in]; a [E, out] tensor has in = 1.
Tensor take(const Tensor& tensor, int parts, Range rows, Range cols) {
  if (!tensor) return {};
  const Shape& shape = tensor.shape();
  const std::int64_t in = shape.rank() == 3 ? shape[2] : 1, part = shape[1] / parts;
  const int width = bits(tensor.dtype());
  Tensor taken(tensor.dtype(), shape.rank() == 3 ? Shape{shape[0], parts * rows.count, cols.count}
                                                 : Shape{shape[0], parts * rows.count});
  const auto row_bytes = static_cast<std::size_t>(cols.count * width / 8);
  auto* to = static_cast<std::byte*>(taken.data());
  for (std::int64_t e = 0; e < shape[0]; ++e)
    for (std::int64_t p = 0; p < parts; ++p)
      for (std::int64_t r = rows.first; r < rows.first + rows.count; ++r, to += row_bytes) {
        const std::int64_t element = (e * shape[1] + p * part + r) * in + cols.first;
        std::memcpy(to, static_cast<const std::byte*>(tensor.data()) + element * width / 8,
                    row_bytes);
      }
  return taken;
}

Range scaled(Range range, std::int64_t block) {
  return {range.first / block, ceil_div(range.count, block)};
}

}  // namespace

Range share(std::int64_t extent, std::int64_t unit, int rank, int ranks) {
  const std::int64_t units = extent / unit;
  require(ranks == 1 || (extent % unit == 0 && units >= ranks),
          "[tp] intermediate: expected a multiple of {} and at least {} of them, got {}.", unit,
          ranks, extent);
  if (ranks == 1) return {0, extent};
  const std::int64_t first = units * rank / ranks, end = units * (rank + 1) / ranks;
  return {first * unit, (end - first) * unit};
}

std::int64_t split_unit(const WeightFormat& format) noexcept {
  const std::int64_t rows = std::max(1, format.scale_rows);
  const std::int64_t cols = std::max(bits(format.element) == 4 ? 2 : 1, format.scale_cols);
  return std::lcm(rows, cols);
}

ExpertMatrix slice_rows(const ExpertMatrix& matrix, int parts, Range range) {
  const ScaleBlock block = scale_block(matrix.format, matrix.out(), matrix.in());
  const bool whole = block.rows >= matrix.out();
  ExpertMatrix part;
  part.format = matrix.format;
  part.elements = take(matrix.elements, parts, range, {0, matrix.in()});
  if (matrix.scales)
    part.scales = whole ? matrix.scales.clone()
                        : take(matrix.scales, parts, scaled(range, block.rows),
                               {0, matrix.scales.shape()[2]});
  if (matrix.zeros) part.zeros = take(matrix.zeros, parts, range, {0, matrix.zeros.shape()[2]});
  part.global_scale = matrix.global_scale.clone();
  part.group_of_column = matrix.group_of_column.clone();
  part.bias = take(matrix.bias, parts, range, {0, 1});
  part.input_factor = matrix.input_factor.clone();
  part.input_scale = matrix.input_scale.clone();
  return part;
}

ExpertMatrix slice_columns(const ExpertMatrix& matrix, Range range) {
  require(!matrix.group_of_column && !matrix.input_factor,
          "[tp] down projection: act order and input factors cannot be split by columns here.");
  const ScaleBlock block = scale_block(matrix.format, matrix.out(), matrix.in());
  const bool whole = block.cols >= matrix.in();
  const Range rows{0, matrix.out()};
  ExpertMatrix part;
  part.format = matrix.format;
  part.elements = take(matrix.elements, 1, rows, range);
  if (matrix.scales)
    part.scales =
        whole ? matrix.scales.clone()
              : take(matrix.scales, 1, {0, matrix.scales.shape()[1]}, scaled(range, block.cols));
  if (matrix.zeros) part.zeros = take(matrix.zeros, 1, rows, scaled(range, block.cols));
  part.global_scale = matrix.global_scale.clone();
  part.bias = matrix.bias.clone();
  part.input_scale = matrix.input_scale.clone();
  return part;
}

}  // namespace switchyard::moe
