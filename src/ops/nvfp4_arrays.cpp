#include "ops/nvfp4_arrays.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "formats/convert.h"
#include "formats/nvfp4.cuh"
#include "formats/scale_layout.cuh"

namespace switchyard::ops {

using formats::kNvfp4Block;

void expect_scales(std::string_view where, std::string_view what, std::size_t bytes,
                   ScaleLayout layout, std::int64_t rows, std::int64_t cols) {
  const std::int64_t expected = scale_bytes(layout, rows, cols / kNvfp4Block);
  require(static_cast<std::int64_t>(bytes) == expected,
          "[{}] {}: expected {} bytes ({} of [{}, {}]), got {}.", where, what, expected,
          layout == ScaleLayout::linear ? "linear" : "swizzled 128x4", rows, cols / kNvfp4Block,
          bytes);
}

void expect_nvfp4_weights(std::string_view where, const ExpertMatrix* weights) {
  require(weights && *weights, "[{}] weights: expected a matrix, got none.", where);
  check(*weights, "weights");
  require(weights->format == weight_format("nvfp4"), "[{}] weights: expected nvfp4, got {}.", where,
          to_string(weights->format));
  require(weights->experts() > 0, "[{}] weights: expected at least one expert, got {}.", where,
          to_string(weights->elements.shape()));
}

std::size_t scale_at(ScaleLayout layout, std::int64_t row, std::int64_t block,
                     std::int64_t blocks) {
  return static_cast<std::size_t>(layout == ScaleLayout::linear
                                      ? row * blocks + block
                                      : formats::offset_128x4(row, block, blocks));
}

std::vector<double> decode_nvfp4(ConstTensorView codes, std::span<const std::uint8_t> scales,
                                 ScaleLayout layout) {
  const std::int64_t rows = codes.shape[0], cols = codes.shape[1];
  std::vector<double> values(static_cast<std::size_t>(rows * cols));
  formats::load_run(codes.dtype, codes.data, 0, rows * cols, values.data());
  for (std::int64_t i = 0; i < rows * cols; ++i)
    values[static_cast<std::size_t>(i)] *= static_cast<double>(formats::decode_e4m3(
        scales[scale_at(layout, i / cols, i % cols / kNvfp4Block, cols / kNvfp4Block)]));
  return values;
}

void encode_nvfp4_row(std::span<const double> values, std::int64_t row, float norm_const,
                      TensorView codes, std::span<std::uint8_t> scales) {
  const std::int64_t cols = codes.shape[1], blocks = cols / kNvfp4Block;
  for (std::int64_t block = 0; block < blocks; ++block) {
    const auto first = static_cast<std::size_t>(row * cols + block * kNvfp4Block);
    float max = 0;
    for (std::size_t i = first; i < first + kNvfp4Block; ++i)
      max = std::max(max, std::abs(static_cast<float>(values[i])));
    const formats::Nvfp4Scale scale = formats::nvfp4_scale_epilogue(max, norm_const);
    scales[scale_at(ScaleLayout::swizzled_128x4, row, block, blocks)] = scale.code;
    for (std::size_t i = first; i < first + kNvfp4Block; i += 2)
      codes.as<std::uint8_t>()[i / 2] = formats::pack_nibbles(
          formats::encode_e2m1(static_cast<float>(values[i]) * scale.multiplier),
          formats::encode_e2m1(static_cast<float>(values[i + 1]) * scale.multiplier));
  }
}

std::span<const float> floats(ConstTensorView view) {
  return {view.as<float>(), view ? static_cast<std::size_t>(view.shape.elements()) : 0};
}

}  // namespace switchyard::ops
