#include "checkpoint/scale_shapes.h"

#include <vector>

#include "base/check.h"
#include "base/math.h"

namespace switchyard::checkpoint {
namespace {

struct Extents {
  std::int64_t rows, cols;
};

[[noreturn]] void refuse(const LayerTensors& layer, const Leaf& leaf, std::string_view rule) {
  throw InvalidArgument(
      fmt::format("[checkpoint] tensor '{}': expected {}, got {} {}. Convert the checkpoint again.",
                  layer.full_name(leaf.name, leaf.per_expert, 0), rule, name(leaf.type),
                  to_string(leaf.shape)));
}

/// The extents of one matrix's part of the leaf, as [out, in]; a vector is one column.
Extents extents(const LayerTensors& layer, const StoredMatrix& matrix, const Leaf& leaf) {
  const int rank = leaf.shape.rank();
  const bool fused = matrix.holder == Holder::fused;
  if (leaf.shape.elements() == 1) return {1, 1};
  if (fused && (rank == 0 || leaf.shape[0] != matrix.experts))
    refuse(layer, leaf, fmt::format("one for each of {} experts, or one", matrix.experts));
  const int first = fused ? 1 : 0;
  if (rank - first == 0) return {1, 1};
  if (rank - first == 1) return {leaf.shape[first], 1};
  if (rank - first != 2) refuse(layer, leaf, "at most 2 extents a matrix");
  const Extents e{leaf.shape[first], leaf.shape[first + 1]};
  // Fused FP8 keeps channel scales [E, 1, out] beside its [E, in, out].
  return matrix.columns ? Extents{e.cols, e.rows} : e;
}

/// FP8: one scale, one a row, or blocks.
void set_fp8_block(const LayerTensors& layer, const QuantConfig& quant, Extents scales,
                   StoredMatrix& matrix) {
  const bool named_block = matrix.scheme->scales != "weight_scale" || quant.block_cols > 0;
  const bool row = scales.rows == matrix.out && scales.cols == 1;
  const bool one = scales.rows == 1 && scales.cols == 1;
  const bool channel = quant.input_strategy == "token" && row;
  std::vector<Extents> blocks = {{128, 128}, {32, 32}, {64, 64}, {256, 256}, {1, 128}};
  if (quant.block_rows > 0 && quant.block_cols > 0)
    blocks.insert(blocks.begin(), {quant.block_rows, quant.block_cols});
  if (named_block && !channel)
    for (const Extents block : blocks)
      if (scales.rows == ceil_div(matrix.out, block.rows) &&
          scales.cols == ceil_div(matrix.in, block.cols)) {
        matrix.scale_rows = block.rows;
        matrix.scale_cols = block.cols;
        return;
      }
  if (one) return;
  if (row) {
    matrix.scale_rows = 1;
    return;
  }
  for (const Extents block : blocks)
    if (scales.rows == ceil_div(matrix.out, block.rows) &&
        scales.cols == ceil_div(matrix.in, block.cols)) {
      matrix.scale_rows = block.rows;
      matrix.scale_cols = block.cols;
      return;
    }
  refuse(
      layer, *matrix.scales,
      fmt::format("one scale, {} (one a row) or {} x {} (128 x 128 blocks)", matrix.out,
                  ceil_div<std::int64_t>(matrix.out, 128), ceil_div<std::int64_t>(matrix.in, 128)));
}

/// A scale for `group` columns of a row.
void set_group(const LayerTensors& layer, const QuantConfig& quant, Extents scales,
               StoredMatrix& matrix) {
  const int fixed = matrix.scheme->group;
  matrix.scale_rows = 1;
  if (fixed > 0) {
    require(matrix.in % fixed == 0,
            "[checkpoint] tensor '{}': expected rows of whole groups of {}, got {} columns. Pad "
            "the checkpoint.",
            layer.full_name(matrix.elements->name, matrix.elements->per_expert, 0), fixed,
            matrix.in);
    if (scales.rows != matrix.out || scales.cols != matrix.in / fixed)
      refuse(layer, *matrix.scales,
             fmt::format("scales for {} rows and {} groups of {}", matrix.out, matrix.in / fixed,
                         fixed));
    matrix.scale_cols = fixed;
    return;
  }
  if (scales.rows != matrix.out || scales.cols < 1 || matrix.in % scales.cols != 0 ||
      (matrix.in / scales.cols) % 2 != 0)
    refuse(layer, *matrix.scales,
           fmt::format("scales for {} rows and whole groups of {} columns", matrix.out, matrix.in));
  matrix.scale_cols = matrix.in / scales.cols;
  if (scales.cols == 1 && quant.group_size != matrix.in) matrix.scale_cols = 0;
}

}  // namespace

void set_scale_block(const LayerTensors& layer, const QuantConfig& quant, StoredMatrix& matrix) {
  if (!matrix.scales) return;
  const Extents scales = extents(layer, matrix, *matrix.scales);
  if (matrix.scheme->encoding == Encoding::plain && matrix.scheme->group == 0)
    set_fp8_block(layer, quant, scales, matrix);
  else
    set_group(layer, quant, scales, matrix);
}

void check_other_shapes(const LayerTensors& layer, const StoredMatrix& matrix) {
  for (const Leaf* const leaf : {matrix.global, matrix.input_scale}) {
    if (!leaf) continue;
    const std::int64_t count = leaf->shape.elements();
    const bool fused = matrix.holder == Holder::fused;
    if (count != 1 && !(fused && count == matrix.experts))
      refuse(layer, *leaf, fused ? "one value, or one an expert" : "one value");
    if (leaf->type != StoredType::F32) refuse(layer, *leaf, "type F32");
  }
  if (const Leaf* const leaf = matrix.groups;
      leaf && (leaf->type != StoredType::I32 || leaf->shape != Shape{matrix.in}))
    refuse(layer, *leaf, fmt::format("I32 [{}]", matrix.in));
  if (const Leaf* const leaf = matrix.input_factor;
      leaf && (leaf->shape.elements() != matrix.in || bits(leaf->type) < 16 ||
               !dtype_of(leaf->type) || leaf->type > StoredType::BF16))
    refuse(layer, *leaf, fmt::format("{} numbers", matrix.in));
  if (const Leaf* const leaf = matrix.zeros) {
    const std::int64_t groups = matrix.scale_cols > 0 ? matrix.in / matrix.scale_cols : 1;
    const Shape shape =
        matrix.columns ? Shape{groups, matrix.out / 8} : Shape{matrix.out / 8, groups};
    if (leaf->type != StoredType::I32 || leaf->shape != shape || matrix.out % 8 != 0)
      refuse(layer, *leaf, fmt::format("I32 {} (8 zero points a word)", to_string(shape)));
  }
}

}  // namespace switchyard::checkpoint
