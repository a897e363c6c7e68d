#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "switchyard/dtype.h"
#include "switchyard/tensor.h"

namespace switchyard {

/// How a weight matrix is stored. One scale serves `scale_rows` x `scale_cols` elements; 0 stands
/// for the whole extent. docs/formats.md has the bytes.
struct WeightFormat {
  DType element = DType::bf16;  ///< f32 bf16 f16 f8_e4m3 f4_e2m1 u4
  bool scaled = false;          ///< has a `scales` tensor
  DType scale = DType::f32;     ///< f32 bf16 f16 f8_e4m3 f8_e8m0; f32 if not scaled
  int scale_rows = 0;
  int scale_cols = 0;
  bool global_scale = false;  ///< one more f32 per expert and part (NVFP4)
  bool zero_points = false;   ///< u4 only; without them the zero point is 8

  friend bool operator==(const WeightFormat&, const WeightFormat&) = default;
};

/// f32 bf16 fp16 fp8_tensor fp8_channel fp8_block (128x128) fp8_block32 mxfp8 nvfp4 mxfp4
/// int4_gN (N = 32, 64, 128, ...; "int4" is int4_g128; "int4_gN_zp" with zero points).
/// Throws InvalidArgument, listing the names, for any other word.
WeightFormat weight_format(std::string_view name);

/// The name that weight_format() reads; a description for formats that have none.
std::string to_string(const WeightFormat& format);

/// Rows and columns that one scale covers, with 0 resolved against the matrix [out, in].
struct ScaleBlock {
  std::int64_t rows, cols;
};
ScaleBlock scale_block(const WeightFormat& format, std::int64_t out, std::int64_t in) noexcept;

/// One projection of E experts, row-major as [E, out, in]:
///
///   w[e, r, c] = (element[e, r, c] - zero[e, r, g]) * scale[e, r / scale_rows, g] * global[e, p]
///   g = group_of_column ? group_of_column[e, c] : c / scale_cols      p = r / (out / parts)
///
/// Absent tensors leave their factor out. The fields own their memory.
struct ExpertMatrix {
  WeightFormat format;
  Tensor elements;         ///< [E, out, in]  format.element
  Tensor scales;           ///< [E, ceil(out / scale_rows), ceil(in / scale_cols)]  format.scale
  Tensor zeros;            ///< [E, out, ceil(in / scale_cols)]  u8, 0..15
  Tensor global_scale;     ///< [E, parts]  f32, multiplies; parts divides out (2 = gate and up)
  Tensor group_of_column;  ///< [E, in]  i32, for GPTQ's act order; scales and zeros then have
                           ///< as many groups a row as the ids need
  Tensor bias;             ///< [E, out]  f32, added to the product
  Tensor input_factor;     ///< [E or 1, in]  f32, multiplies the input (AWQ's pre_quant_scale)
  Tensor input_scale;      ///< [E or 1]  f32, static activation scale: x ~ q * input_scale; for
                           ///< nvfp4 activations amax / 2688, for fp8 amax / 448

  std::int64_t experts() const noexcept { return elements.shape()[0]; }
  std::int64_t out() const noexcept { return elements.shape()[1]; }
  std::int64_t in() const noexcept { return elements.shape()[2]; }
  std::int64_t bytes() const noexcept;  ///< elements, scales, zeros and global scales
  explicit operator bool() const noexcept { return static_cast<bool>(elements); }
};

/// The experts of one layer.
///
///   gate_up  [E, 2I, H]  rows 0..I-1 gate, I..2I-1 up;  [E, I, H] for activations without a gate
///   down     [E, H, I]
struct ExpertWeights {
  ExpertMatrix gate_up;
  ExpertMatrix down;
};

/// Throws InvalidArgument, naming the tensor, unless every shape and type follows from the format.
void check(const ExpertMatrix& matrix, std::string_view name);

/// How NVFP4 block scales are computed (spec: "fast" is what engines' kernels do).
enum class ScaleRecipe { fast, exact };

/// Quantises [E, out, in] f32 | bf16 | f16 to `format`, rounding to nearest even; `parts` global
/// scales an expert. Throws InvalidArgument for other dtypes, values that are not finite, or an
/// `in` that is not whole groups (4-bit formats, mxfp8).
ExpertMatrix quantize(ConstTensorView weights, const WeightFormat& format, int parts = 1,
                      ScaleRecipe recipe = ScaleRecipe::exact);

/// The same values as NVFP4, to the bit: codes stay, scales become powers of two in E4M3 under a
/// power of two for each expert. Empty if an expert's scales span more than 2^17 (blocks of zeros
/// do not count), if one is NaN, or if `in` is no multiple of 16. Throws InvalidArgument for
/// another format.
std::optional<ExpertMatrix> nvfp4_without_loss(const ExpertMatrix& mxfp4);

/// [E, out, in] in `to`: f32, bf16, f16 or f64 (f64 is exact).
Tensor dequantize(const ExpertMatrix& matrix, DType to);

}  // namespace switchyard
