#include "moe/semantics.h"

#include <algorithm>

namespace switchyard::moe {

ActivationFormat storage_format(ActivationFormat act) noexcept {
  const bool own = act == ActivationFormat::f32 || act == ActivationFormat::fp16;
  return own ? act : ActivationFormat::bf16;
}

ActivationFormat input_format(ActivationFormat act, const ExpertMatrix& matrix) noexcept {
  return matrix.format.scaled ? act : storage_format(act);
}

std::optional<float> static_input_scale(ActivationFormat format, const ExpertMatrix& matrix) {
  const bool scaled_as_a_whole =
      format == ActivationFormat::fp8_tensor || format == ActivationFormat::nvfp4;
  if (!scaled_as_a_whole || !matrix.input_scale) return std::nullopt;
  const float* scales = matrix.input_scale.as<float>();
  return *std::max_element(scales, scales + matrix.input_scale.shape().elements());
}

double fused_alpha_factor(const ExpertMatrix& down, std::int64_t expert) {
  if (!down.global_scale) return 1;
  const float* scales = down.global_scale.as<float>();
  const std::int64_t parts = down.global_scale.shape()[1];
  const std::int64_t count = down.global_scale.shape().elements();
  return static_cast<double>(scales[expert * parts]) / *std::max_element(scales, scales + count);
}

}  // namespace switchyard::moe
