#include <algorithm>

#include "base/check.h"
#include "base/math.h"
#include "switchyard/weights.h"

namespace switchyard {
namespace {

bool valid_element(DType type) {
  constexpr DType kElements[] = {DType::f32,     DType::bf16,    DType::f16,
                                 DType::f8_e4m3, DType::f4_e2m1, DType::u4};
  return std::ranges::find(kElements, type) != std::end(kElements);
}

bool valid_scale(DType type) {
  constexpr DType kScales[] = {DType::f32, DType::bf16, DType::f16, DType::f8_e4m3, DType::f8_e8m0};
  return std::ranges::find(kScales, type) != std::end(kScales);
}

void check_format(const WeightFormat& format, std::string_view where) {
  require(valid_element(format.element),
          "[{}] format.element: expected f32, bf16, f16, f8_e4m3, f4_e2m1 or u4, got {}.", where,
          name(format.element));
  require(valid_scale(format.scale),
          "[{}] format.scale: expected f32, bf16, f16, f8_e4m3 or f8_e8m0, got {}.", where,
          name(format.scale));
  require(format.scale_rows >= 0 && format.scale_cols >= 0,
          "[{}] format: expected scale_rows and scale_cols >= 0, got {} x {}.", where,
          format.scale_rows, format.scale_cols);
  require(!format.zero_points || format.element == DType::u4,
          "[{}] format.zero_points: expected u4 elements, got {}.", where, name(format.element));
  require(!format.zero_points || format.scaled,
          "[{}] format.zero_points: expected a scaled format.", where);
}

void check_tensor(const Tensor& tensor, std::string_view where, std::string_view field, DType dtype,
                  const Shape& shape) {
  require(static_cast<bool>(tensor), "[{}] {}: expected {} {}, got none.", where, field,
          name(dtype), to_string(shape));
  require(tensor.dtype() == dtype && tensor.shape() == shape, "[{}] {}: expected {} {}, got {} {}.",
          where, field, name(dtype), to_string(shape), name(tensor.dtype()),
          to_string(tensor.shape()));
}

void check_absent(const Tensor& tensor, std::string_view where, std::string_view field,
                  const WeightFormat& format) {
  require(!tensor, "[{}] {}: expected none for format {}, got {} {}.", where, field,
          to_string(format), name(tensor.dtype()), to_string(tensor.shape()));
}

void check_global_scale(const ExpertMatrix& matrix, std::string_view where) {
  const Tensor& global = matrix.global_scale;
  const std::int64_t experts = matrix.experts(), out = matrix.out();
  const bool fits = global && global.dtype() == DType::f32 && global.shape().rank() == 2 &&
                    global.shape()[0] == experts && global.shape()[1] > 0 &&
                    out % global.shape()[1] == 0;
  require(fits, "[{}] global_scale: expected f32 [{}, parts] with parts dividing {}, got {}.",
          where, experts, out,
          global ? fmt::format("{} {}", name(global.dtype()), to_string(global.shape())) : "none");
}

/// Decoding indexes by these ids, so a wrong one would read outside the scales.
void check_group_ids(const ExpertMatrix& matrix, std::string_view where, std::int64_t groups) {
  const std::int32_t* ids = matrix.group_of_column.as<std::int32_t>();
  const std::int64_t count = matrix.group_of_column.shape().elements();
  for (std::int64_t i = 0; i < count; ++i)
    require(ids[i] >= 0 && ids[i] < groups,
            "[{}] group_of_column: expected ids in [0, {}), got {} at expert {}, column {}.", where,
            groups, ids[i], i / matrix.in(), i % matrix.in());
}

/// [E, n] or [1, n]; without `n`, [E] or [1].
void check_per_expert(const Tensor& tensor, std::string_view where, std::string_view field,
                      std::int64_t experts, std::initializer_list<std::int64_t> tail) {
  const auto shape = [&](std::int64_t first) {
    return tail.size() == 0 ? Shape{first} : Shape{first, *tail.begin()};
  };
  require(tensor.dtype() == DType::f32 &&
              (tensor.shape() == shape(experts) || tensor.shape() == shape(1)),
          "[{}] {}: expected f32 {} or {}, got {} {}.", where, field, to_string(shape(experts)),
          to_string(shape(1)), name(tensor.dtype()), to_string(tensor.shape()));
}

}  // namespace

void check(const ExpertMatrix& matrix, std::string_view where) {
  const WeightFormat& format = matrix.format;
  check_format(format, where);
  require(static_cast<bool>(matrix.elements), "[{}] elements: expected [E, out, in], got none.",
          where);
  require(matrix.elements.dtype() == format.element && matrix.elements.shape().rank() == 3,
          "[{}] elements: expected {} [E, out, in], got {} {}. Name the format that they are in, "
          "or quantize them.",
          where, name(format.element), name(matrix.elements.dtype()),
          to_string(matrix.elements.shape()));
  const std::int64_t experts = matrix.experts(), out = matrix.out(), in = matrix.in();
  const ScaleBlock block = scale_block(format, out, in);
  std::int64_t groups = ceil_div(in, block.cols);
  // A part of an act-ordered matrix keeps all groups: its columns may belong to any.
  if (matrix.group_of_column && matrix.scales.shape().rank() == 3)
    groups = matrix.scales.shape()[2];

  if (format.scaled) {
    check_tensor(matrix.scales, where, "scales", format.scale,
                 {experts, ceil_div(out, block.rows), groups});
  } else {
    check_absent(matrix.scales, where, "scales", format);
  }
  if (format.zero_points) {
    check_tensor(matrix.zeros, where, "zeros", DType::u8, {experts, out, groups});
  } else {
    check_absent(matrix.zeros, where, "zeros", format);
  }
  if (format.global_scale) {
    check_global_scale(matrix, where);
  } else {
    check_absent(matrix.global_scale, where, "global_scale", format);
  }
  if (matrix.group_of_column) {
    require(format.scaled, "[{}] group_of_column: expected a scaled format, got {}.", where,
            to_string(format));
    check_tensor(matrix.group_of_column, where, "group_of_column", DType::i32, {experts, in});
    check_group_ids(matrix, where, groups);
  }
  if (matrix.bias) check_tensor(matrix.bias, where, "bias", DType::f32, {experts, out});
  if (matrix.input_factor)
    check_per_expert(matrix.input_factor, where, "input_factor", experts, {in});
  if (matrix.input_scale) check_per_expert(matrix.input_scale, where, "input_scale", experts, {});
}

}  // namespace switchyard
