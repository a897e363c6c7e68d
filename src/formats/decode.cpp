#include "formats/decode.h"

#include <algorithm>

#include "base/math.h"
#include "formats/convert.h"
#include "formats/int4.cuh"

namespace switchyard::formats {
namespace {

/// Where one row's scales and zero points are.
struct RowGroups {
  std::int64_t groups, cols;             // groups of the row; columns of one group
  std::int64_t first_scale, first_zero;  // indices of the row's first scale and zero point
  const std::int32_t* group_of_column;   // null: groups are consecutive columns
};

RowGroups row_groups(const ExpertMatrix& matrix, std::int64_t expert, std::int64_t row) {
  const std::int64_t out = matrix.out(), in = matrix.in();
  const ScaleBlock block = scale_block(matrix.format, out, in);
  const std::int64_t groups =
      matrix.group_of_column ? matrix.scales.shape()[2] : ceil_div(in, block.cols);
  const std::int64_t scale_row = expert * ceil_div(out, block.rows) + row / block.rows;
  return {.groups = groups,
          .cols = block.cols,
          .first_scale = scale_row * groups,
          .first_zero = (expert * out + row) * groups,
          .group_of_column = matrix.group_of_column
                                 ? matrix.group_of_column.as<std::int32_t>() + expert * in
                                 : nullptr};
}

/// Calls combine(value, group) for each column.
template <class T, class Combine>
void for_columns(const RowGroups& row, std::int64_t in, T* values, Combine combine) {
  if (row.group_of_column != nullptr) {
    for (std::int64_t c = 0; c < in; ++c) combine(values[c], row.group_of_column[c]);
    return;
  }
  for (std::int64_t g = 0; g < row.groups; ++g) {
    const std::int64_t end = std::min(in, (g + 1) * row.cols);
    for (std::int64_t c = g * row.cols; c < end; ++c) combine(values[c], g);
  }
}

template <class T>
void apply_scales(const ExpertMatrix& matrix, const RowGroups& row, T* values) {
  const std::int64_t in = matrix.in();
  const DType type = matrix.format.scale;
  const void* data = matrix.scales.data();
  if (row.group_of_column != nullptr) {
    for_columns(row, in, values, [&](T& w, std::int64_t group) {
      w *= static_cast<T>(load(type, data, row.first_scale + group));
    });
    return;
  }
  constexpr std::int64_t kChunk = 256;
  T scales[kChunk];
  for (std::int64_t g = 0; g < row.groups; g += kChunk) {
    const std::int64_t count = std::min(kChunk, row.groups - g);
    load_run(type, data, row.first_scale + g, count, scales);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t end = std::min(in, (g + i + 1) * row.cols);
      for (std::int64_t c = (g + i) * row.cols; c < end; ++c) values[c] *= scales[i];
    }
  }
}

}  // namespace

double value(const ExpertMatrix& matrix, std::int64_t expert, std::int64_t row, std::int64_t col) {
  const RowGroups groups = row_groups(matrix, expert, row);
  const std::int64_t group =
      groups.group_of_column != nullptr ? groups.group_of_column[col] : col / groups.cols;
  double w = load(matrix.format.element, matrix.elements.data(),
                  (expert * matrix.out() + row) * matrix.in() + col);
  if (matrix.zeros) {
    w -= matrix.zeros.as<std::uint8_t>()[groups.first_zero + group];
  } else if (matrix.format.element == DType::u4) {
    w -= kInt4Zero;
  }
  if (matrix.scales)
    w *= load(matrix.format.scale, matrix.scales.data(), groups.first_scale + group);
  return w * static_cast<double>(row_global(matrix, expert, row));
}

template <class T>
void decode_row(const ExpertMatrix& matrix, std::int64_t expert, std::int64_t row, T* out) {
  const std::int64_t in = matrix.in();
  load_run(matrix.format.element, matrix.elements.data(), (expert * matrix.out() + row) * in, in,
           out);
  const RowGroups groups = row_groups(matrix, expert, row);
  if (matrix.zeros) {
    const std::uint8_t* zeros = matrix.zeros.as<std::uint8_t>() + groups.first_zero;
    for_columns(groups, in, out,
                [&](T& w, std::int64_t group) { w -= static_cast<T>(zeros[group]); });
  } else if (matrix.format.element == DType::u4) {
    for (std::int64_t c = 0; c < in; ++c) out[c] -= static_cast<T>(kInt4Zero);
  }
  if (matrix.scales) apply_scales(matrix, groups, out);
}

template void decode_row(const ExpertMatrix&, std::int64_t, std::int64_t, float*);
template void decode_row(const ExpertMatrix&, std::int64_t, std::int64_t, double*);

float row_global(const ExpertMatrix& matrix, std::int64_t expert, std::int64_t row) {
  if (!matrix.global_scale) return 1;
  const std::int64_t parts = matrix.global_scale.shape()[1];
  return matrix.global_scale.as<float>()[expert * parts + row / (matrix.out() / parts)];
}

}  // namespace switchyard::formats
