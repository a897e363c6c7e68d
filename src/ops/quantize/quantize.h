#pragma once

#include <cstdint>
#include <optional>

#include "switchyard/config.h"

namespace switchyard::ops {

/// What a GEMM's input [rows, cols] is rounded to.
struct ActivationRounding {
  ActivationFormat format = ActivationFormat::bf16;
  std::int64_t rows = 0, cols = 0;
  /// fp8_tensor and nvfp4: the static scale (max|x| / 448, max|x| / 2688), positive and finite.
  /// Without it the scale comes from this call's values. Other formats ignore it.
  std::optional<float> input_scale;
};

/// out = the values that the GEMM sees: `in` quantised and read back. T is float or double; `out`
/// may be `in`.
///
/// f32, bf16 and fp16 are rounded once. The others are defined on f32 values, as engines compute
/// them: `in` is rounded to f32, quantised (formats/*.cuh; nvfp4 by `fast`) and read back in T.
/// Blocks run along a row (16 nvfp4, 32 mxfp8, 128 fp8_block); a row's last one may be short.
/// Throws InvalidArgument for a bad input_scale, naming `where`.
template <class T>
void round_activations(const ActivationRounding& rounding, const T* in, T* out,
                       const char* where = "round_activations");

}  // namespace switchyard::ops
