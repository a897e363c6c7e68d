#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "switchyard/ops.h"

/// NVFP4 activations as the operations' arguments have them: codes, and block scales in a layout.
namespace switchyard::ops {

/// Throws unless `bytes` is what scales of [rows, cols] values take in `layout`.
void expect_scales(std::string_view where, std::string_view what, std::size_t bytes,
                   ScaleLayout layout, std::int64_t rows, std::int64_t cols);

/// Throws unless there is a valid nvfp4 matrix of at least one expert.
void expect_nvfp4_weights(std::string_view where, const ExpertMatrix* weights);

/// Byte of the scale of block `block` of row `row` among `blocks` of a row.
std::size_t scale_at(ScaleLayout layout, std::int64_t row, std::int64_t block, std::int64_t blocks);

/// e2m1 * scale of [rows, cols].
std::vector<double> decode_nvfp4(ConstTensorView codes, std::span<const std::uint8_t> scales,
                                 ScaleLayout layout);

/// The epilogue's quantisation (spec 1.3) of row `row` of [rows, cols] f32 values; scales are
/// swizzled 128x4.
void encode_nvfp4_row(std::span<const double> values, std::int64_t row, float norm_const,
                      TensorView codes, std::span<std::uint8_t> scales);

/// The numbers of an optional f32 array.
std::span<const float> floats(ConstTensorView view);

}  // namespace switchyard::ops
