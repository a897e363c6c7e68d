#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "base/math.h"
#include "base/thread_pool.h"
#include "formats/bf16.cuh"
#include "formats/convert.h"
#include "formats/decode.h"
#include "formats/e8m0.cuh"
#include "formats/fp16.cuh"
#include "formats/fp8_block.cuh"
#include "formats/int4.cuh"
#include "formats/mxfp4.cuh"
#include "formats/mxfp8.cuh"
#include "formats/nvfp4.cuh"
#include "switchyard/weights.h"

namespace switchyard {
namespace {

using namespace formats;

/// The values that share one scale, and where their codes and scale go.
struct Block {
  const float* values;  // [rows, cols], rows `stride` apart
  std::int64_t rows, cols, stride;
  std::int64_t element, scale;  // indices of the first code and of the scale

  float max() const {
    uint32 max = 0;  // magnitudes order like their bits, and integers vectorise
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < cols; ++c)
        max = std::max(max, bits_as<uint32>(values[r * stride + c]) & 0x7fffffffU);
    return bits_as<float>(max);
  }
};

/// Stores a scale in its own type and returns what it will be read as: positive and finite.
float store_scale(ExpertMatrix& to, const Block& block, float scale) {
  const DType type = to.format.scale;
  if (type == DType::f16) scale = std::min(scale, decode_fp16(kFp16.largest));
  if (type == DType::bf16) scale = std::min(scale, decode_bf16(kBf16.largest));
  store(type, to.scales.data(), block.scale, static_cast<double>(scale));
  const auto stored = static_cast<float>(load(type, to.scales.data(), block.scale));
  if (stored > 0) return stored;
  store(type, to.scales.data(), block.scale, 1);
  return 1;
}

template <class Encode>
void store_bytes(ExpertMatrix& to, const Block& block, Encode encode) {
  uint8* codes = to.elements.as<uint8>() + block.element;
  for (std::int64_t r = 0; r < block.rows; ++r)
    for (std::int64_t c = 0; c < block.cols; ++c)
      codes[r * block.stride + c] = encode(block.values[r * block.stride + c]);
}

template <class Encode>
void store_nibbles(ExpertMatrix& to, const Block& block, Encode encode) {
  uint8* codes = to.elements.as<uint8>() + block.element / 2;
  for (std::int64_t c = 0; c < block.cols; c += 2)
    codes[c / 2] = pack_nibbles(encode(block.values[c]), encode(block.values[c + 1]));
}

void quantize_fp8(ExpertMatrix& to, const Block& block) {
  if (to.format.scale == DType::f8_e8m0) {
    const uint8 code = mxfp8_scale(block.max());
    to.scales.as<uint8>()[block.scale] = code;
    const float multiplier = e8m0_multiplier(code);
    return store_bytes(to, block, [=](float x) { return encode_e4m3(x * multiplier); });
  }
  const float scale = store_scale(to, block, fp8_scale(block.max()));
  store_bytes(to, block, [=](float x) { return encode_fp8(x, scale); });
}

void quantize_mxfp4(ExpertMatrix& to, const Block& block) {
  const uint8 code = mxfp4_scale(block.max());
  to.scales.as<uint8>()[block.scale] = code;
  const float multiplier = e8m0_multiplier(code);
  store_nibbles(to, block, [=](float x) { return encode_e2m1(x * multiplier); });
}

void quantize_nvfp4(ExpertMatrix& to, const Block& block, float global_scale, ScaleRecipe recipe) {
  const float encode_scale = 1.0F / global_scale;
  const Nvfp4Scale scale = recipe == ScaleRecipe::fast
                               ? nvfp4_scale_fast(block.max(), encode_scale)
                               : nvfp4_scale_exact(block.max(), encode_scale);
  to.scales.as<uint8>()[block.scale] = scale.code;
  store_nibbles(to, block, [=](float x) { return encode_e2m1(x * scale.multiplier); });
}

void quantize_int4(ExpertMatrix& to, const Block& block, std::int64_t zero_index) {
  if (!to.format.zero_points) {
    // 15 steps between -max and max; max itself saturates half a step below.
    const float scale = store_scale(to, block, block.max() / 7.5F);
    return store_nibbles(to, block, [=](float x) { return encode_int4(x, scale); });
  }
  const auto [low, high] = std::minmax_element(block.values, block.values + block.cols);
  const float below = std::min(0.0F, *low), above = std::max(0.0F, *high);
  const float scale = store_scale(to, block, above / 15 - below / 15);
  const uint8 zero = encode_int4(-below, scale, 0);
  to.zeros.as<uint8>()[zero_index] = zero;
  store_nibbles(to, block, [=](float x) { return encode_int4(x, scale, zero); });
}

bool has_quantizer(const WeightFormat& format) {
  const bool one_row = format.scale_rows == 1;
  const bool float_scale = is_plain_float(format.scale);
  if (!format.scaled) return is_plain_float(format.element) && !format.global_scale;
  if (format.element == DType::f4_e2m1 && format.global_scale)
    return one_row && format.scale == DType::f8_e4m3;
  if (format.global_scale) return false;
  if (format.element == DType::f4_e2m1) return one_row && format.scale == DType::f8_e8m0;
  if (format.element == DType::u4) return one_row && float_scale;
  return format.element == DType::f8_e4m3 && (float_scale || format.scale == DType::f8_e8m0);
}

void check_request(ConstTensorView weights, const WeightFormat& format, int parts) {
  require(weights && is_plain_float(weights.dtype) && weights.shape.rank() == 3,
          "[quantize] weights: expected f32, bf16 or f16 [E, out, in], got {} {}.",
          weights ? name(weights.dtype) : "none", to_string(weights.shape));
  require(has_quantizer(format),
          "[quantize] format: expected one that weight_format() names, got {}.", to_string(format));
  const std::int64_t out = weights.shape[1], in = weights.shape[2];
  require(parts >= 1 && (parts == 1 || (format.global_scale && out % parts == 0)),
          "[quantize] parts: expected 1, or a divisor of {} rows for formats with a global scale, "
          "got {} for {}.",
          out, parts, to_string(format));
  const std::int64_t group = scale_block(format, out, in).cols;
  const bool whole_groups = bits(format.element) == 4 || format == weight_format("mxfp8");
  require(!whole_groups || in % group == 0,
          "[quantize] weights: expected a last extent in whole groups of {}, got {}. Pad it.",
          group, in);
}

ExpertMatrix allocate(const Shape& shape, const WeightFormat& format, int parts) {
  const std::int64_t experts = shape[0], out = shape[1], in = shape[2];
  const ScaleBlock block = scale_block(format, out, in);
  ExpertMatrix matrix;
  matrix.format = format;
  matrix.elements = Tensor(format.element, shape);
  if (format.scaled)
    matrix.scales =
        Tensor(format.scale, {experts, ceil_div(out, block.rows), ceil_div(in, block.cols)});
  if (format.zero_points)
    matrix.zeros = Tensor(DType::u8, {experts, out, ceil_div(in, block.cols)});
  if (format.global_scale) matrix.global_scale = Tensor(DType::f32, {experts, parts});
  return matrix;
}

/// Rows `row`.. of one expert as f32; throws if one is not finite or overflows `element`.
void load_rows(ConstTensorView weights, DType element, std::int64_t row, std::span<float> values) {
  const std::int64_t in = weights.shape[2];
  const auto count = static_cast<std::int64_t>(values.size());
  load_run(weights.dtype, weights.data, row * in, count, values.data());
  // Halfway between the largest value and the next power of two rounds to infinity.
  const float beyond = element == DType::f16    ? 65520.0F
                       : element == DType::bf16 ? 0x1.ffp127F
                                                : HUGE_VALF;
  const auto bad = std::ranges::find_if_not(values, [=](float x) { return std::abs(x) < beyond; });
  if (bad == values.end()) return;
  const std::int64_t at = row * in + (bad - values.begin()), out = weights.shape[1];
  require(false,
          "[quantize] weights: expected finite values that fit {}, got {} at expert {}, row {}, "
          "column {}.",
          name(element), *bad, at / in / out, at / in % out, at % in);
}

/// The scale rows of one expert, one band of rows at a time.
class ExpertQuantizer {
 public:
  ExpertQuantizer(ConstTensorView weights, ExpertMatrix& to, ScaleRecipe recipe)
      : weights_(weights), to_(to), recipe_(recipe) {}

  void run(std::int64_t expert) {
    const std::int64_t out = to_.out(), in = to_.in();
    const std::int64_t band = to_.format.scaled ? scale_block(to_.format, out, in).rows : 1;
    if (to_.format.global_scale) set_global_scales(expert);
    for (std::int64_t row = 0; row < out; row += band) {
      const std::int64_t rows = std::min(band, out - row);
      values_.resize(static_cast<std::size_t>(rows * in));
      load_rows(weights_, to_.format.element, expert * out + row, values_);
      if (to_.format.scaled) {
        quantize_band(expert, row, rows);
      } else {
        store_run(to_.format.element, to_.elements.data(), (expert * out + row) * in, rows * in,
                  values_.data());
      }
    }
  }

 private:
  void set_global_scales(std::int64_t expert) {
    const std::int64_t parts = to_.global_scale.shape()[1], rows = to_.out() / parts;
    values_.resize(static_cast<std::size_t>(to_.in()));
    for (std::int64_t part = 0; part < parts; ++part) {
      float max = 0;
      for (std::int64_t row = part * rows; row < (part + 1) * rows; ++row) {
        load_rows(weights_, to_.format.element, expert * to_.out() + row, values_);
        for (const float x : values_) max = std::max(max, std::abs(x));
      }
      to_.global_scale.as<float>()[expert * parts + part] = nvfp4_global_scale(max);
    }
  }

  void quantize_band(std::int64_t expert, std::int64_t row, std::int64_t rows) {
    const std::int64_t out = to_.out(), in = to_.in();
    const ScaleBlock size = scale_block(to_.format, out, in);
    const std::int64_t groups = ceil_div(in, size.cols);
    const std::int64_t scale_row = expert * ceil_div(out, size.rows) + row / size.rows;
    for (std::int64_t g = 0; g < groups; ++g) {
      const Block block{.values = values_.data() + g * size.cols,
                        .rows = rows,
                        .cols = std::min(size.cols, in - g * size.cols),
                        .stride = in,
                        .element = (expert * out + row) * in + g * size.cols,
                        .scale = scale_row * groups + g};
      if (to_.format.element == DType::f8_e4m3) {
        quantize_fp8(to_, block);
      } else if (to_.format.element == DType::u4) {
        quantize_int4(to_, block, (expert * out + row) * groups + g);
      } else if (to_.format.global_scale) {
        quantize_nvfp4(to_, block, row_global(to_, expert, row), recipe_);
      } else {
        quantize_mxfp4(to_, block);
      }
    }
  }

  ConstTensorView weights_;
  ExpertMatrix& to_;
  ScaleRecipe recipe_;
  std::vector<float> values_;
};

}  // namespace

ExpertMatrix quantize(ConstTensorView weights, const WeightFormat& format, int parts,
                      ScaleRecipe recipe) {
  check_request(weights, format, parts);
  ExpertMatrix matrix = allocate(weights.shape, format, parts);
  const std::int64_t experts = matrix.experts();
  ThreadPool pool(static_cast<int>(std::clamp<std::int64_t>(experts, 1, usable_cores())));
  std::vector<ExpertQuantizer> quantizers(static_cast<std::size_t>(pool.threads()),
                                          ExpertQuantizer(weights, matrix, recipe));
  pool.parallel_for(experts, [&](std::int64_t expert, int slot) {
    quantizers[static_cast<std::size_t>(slot)].run(expert);
  });
  return matrix;
}

Tensor dequantize(const ExpertMatrix& matrix, DType to) {
  require(is_plain_float(to) || to == DType::f64,
          "[dequantize] to: expected f32, bf16, f16 or f64, got {}.", name(to));
  check(matrix, "dequantize");
  const std::int64_t out = matrix.out(), in = matrix.in();
  Tensor weights(to, matrix.elements.shape());
  std::vector<double> row(static_cast<std::size_t>(in));
  for (std::int64_t r = 0; r < matrix.experts() * out; ++r) {
    decode_row(matrix, r / out, r % out, row.data());
    const auto global = static_cast<double>(row_global(matrix, r / out, r % out));
    for (double& w : row) w *= global;
    store_run(to, weights.data(), r * in, in, row.data());
  }
  return weights;
}

}  // namespace switchyard
