#include "checkpoint/projection.h"

#include <numeric>

#include "base/check.h"

namespace switchyard::checkpoint {
namespace {

bool is_plain(const StoredMatrix& matrix) {
  return matrix.scheme->scales.empty();
}

bool is_fp8(const StoredMatrix& matrix) {
  return matrix.elements->type == StoredType::F8_E4M3;
}

bool is_int4(const StoredMatrix& matrix) {
  return !is_plain(matrix) && !is_fp8(matrix) && matrix.scheme->group == 0;
}

WeightFormat fp8_format(const Projection& projection, std::int64_t rows) {
  const StoredMatrix& matrix = projection.parts.front().matrix;
  if (matrix.scheme->group == 32) return weight_format("mxfp8");
  if (matrix.scale_cols == 0)
    // Gate and up have their own scales: one a row keeps both.
    return weight_format(matrix.scale_rows == 0 && !projection.split() ? "fp8_tensor"
                                                                       : "fp8_channel");
  WeightFormat format = weight_format("fp8_block");
  format.scale_rows = static_cast<int>(matrix.scale_rows);
  format.scale_cols = static_cast<int>(matrix.scale_cols);
  if (matrix.scales->type == StoredType::F8_E8M0 && matrix.scale_rows < 128)
    format.scale = DType::f8_e8m0;
  // Where a block ends inside a part, finer blocks repeat its scale.
  const std::int64_t last = projection.parts.back().first;
  if (projection.parts.size() == 2)
    for (const std::int64_t edge : {rows, last})
      format.scale_rows = static_cast<int>(std::gcd<std::int64_t>(format.scale_rows, edge));
  return format;
}

}  // namespace

Slice whole(const Projection& projection) {
  return {.expert = 0,
          .experts = projection.experts,
          .row = 0,
          .rows = projection.rows,
          .col = 0,
          .cols = projection.in};
}

WeightFormat format_of(const Projection& projection, std::int64_t rows) {
  const StoredMatrix& matrix = projection.parts.front().matrix;
  for (const PartRows& part : projection.parts) {
    const StoredMatrix& other = part.matrix;
    const bool same =
        other.scheme == matrix.scheme && other.elements->type == matrix.elements->type &&
        other.scale_rows == matrix.scale_rows && other.scale_cols == matrix.scale_cols &&
        !other.zeros == !matrix.zeros && !other.groups == !matrix.groups &&
        (!matrix.scales || other.scales->type == matrix.scales->type);
    if (!same)
      throw Unsupported(fmt::format(
          "[checkpoint] {}: expected gate and up in one scheme, got {} ({}) and {} ({}). Convert "
          "one of them.",
          projection.layer->prefix, matrix.elements->name, matrix.scheme->name,
          other.elements->name, other.scheme->name));
  }
  if (projection.parts.front().step != 1 && matrix.scale_rows > 1)
    throw Unsupported(fmt::format(
        "[checkpoint] {}: interleaved rows of gate and up with scales for {} rows each: no file "
        "of that kind is known. Convert the checkpoint.",
        projection.layer->prefix, matrix.scale_rows));
  if (is_plain(matrix)) return {.element = *dtype_of(matrix.elements->type)};
  if (is_fp8(matrix)) return fp8_format(projection, rows);
  if (!is_int4(matrix)) return weight_format(matrix.scheme->group == 16 ? "nvfp4" : "mxfp4");
  return {.element = DType::u4,
          .scaled = true,
          .scale = *dtype_of(matrix.scales->type),
          .scale_rows = 1,
          .scale_cols = static_cast<int>(matrix.scale_cols),
          .zero_points = matrix.zeros && !projection.symmetric};
}

std::string scheme_name(const Projection& projection) {
  const StoredMatrix& matrix = projection.parts.front().matrix;
  if (is_plain(matrix)) return to_string(WeightFormat{.element = *dtype_of(matrix.elements->type)});
  if (matrix.scheme->name != "fp8") return std::string(matrix.scheme->name);
  if (matrix.scale_cols > 0) return "fp8 block";
  return matrix.scale_rows > 0 ? "fp8 channel" : "fp8 tensor";
}

ActivationFormat input_format(const Projection& projection, const QuantConfig& quant,
                              ActivationFormat plain) {
  const StoredMatrix& matrix = projection.parts.front().matrix;
  const WeightFormat format = format_of(projection, projection.rows);
  const bool has_scale = matrix.input_scale != nullptr;
  if (!format.scaled || quant.algorithm.starts_with("W4A16")) return plain;
  if (format == weight_format("nvfp4"))
    return has_scale || quant.input_bits == 4 ? ActivationFormat::nvfp4 : plain;
  if (format == weight_format("mxfp8")) return ActivationFormat::mxfp8;
  if (has_scale) return ActivationFormat::fp8_tensor;
  const bool eight = quant.input_bits == 8;
  if (eight && quant.input_strategy == "token") return ActivationFormat::fp8_token;
  if (eight && quant.input_strategy == "group")
    return matrix.scheme->group == 32 && quant.method != "fp8" ? ActivationFormat::mxfp8
                                                               : ActivationFormat::fp8_block;
  if (format.element != DType::f8_e4m3) return plain;
  return format.scale_cols == 128 ? ActivationFormat::fp8_block : ActivationFormat::fp8_token;
}

std::int64_t stored_bytes(const Projection& projection) {
  std::int64_t bytes = 0;
  const Leaf* last = nullptr;
  for (const PartRows& part : projection.parts) {
    const StoredMatrix& m = part.matrix;
    if (m.elements == last) continue;
    last = m.elements;
    for (const Leaf* const leaf :
         {m.elements, m.scales, m.global, m.zeros, m.groups, m.input_scale, m.input_factor})
      if (leaf) bytes += leaf->total_bytes();
  }
  if (projection.bias[0]) bytes += projection.bias[0]->total_bytes();
  if (projection.bias[1] && projection.bias[1] != projection.bias[0])
    bytes += projection.bias[1]->total_bytes();
  return bytes;
}

std::int64_t row_group(const Projection& projection) {
  const StoredMatrix& matrix = projection.parts.front().matrix;
  if (matrix.scale_rows > 1) return matrix.scale_rows;
  return 8;  // AWQ and zero points pack 8 rows a word
}

std::int64_t col_group(const Projection& projection) {
  const StoredMatrix& matrix = projection.parts.front().matrix;
  if (matrix.scale_cols > 0) return matrix.scale_cols;
  return is_plain(matrix) ? 8 : 16;  // 16 bytes
}

}  // namespace switchyard::checkpoint
