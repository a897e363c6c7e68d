#pragma once

#include <optional>

#include "switchyard/config.h"
#include "switchyard/weights.h"

/// Rules of the layer that the reference and every backend share.
namespace switchyard::moe {

/// What the input of a GEMM over `matrix` is rounded to in a layer of `act`: inputs of matrices
/// that are not quantised (a BF16 shared expert beside NVFP4 experts) are never quantised.
ActivationFormat input_format(ActivationFormat act, const ExpertMatrix& matrix) noexcept;

/// The one static input scale that fp8_tensor and nvfp4 activations of all experts use: the
/// largest of ExpertMatrix::input_scale, because tokens are quantised before they are dispatched.
/// Empty: every row takes the scale from its own values.
std::optional<float> static_input_scale(ActivationFormat format, const ExpertMatrix& matrix);

/// bf16, or f32 and fp16 for layers of these: what a value between two steps is stored as.
ActivationFormat storage_format(ActivationFormat act) noexcept;

/// Fused alpha (spec 4.2): the second GEMM's input of expert e is multiplied by its router weight
/// and by this, and its output by the inverse. g_e / max g with g the down projection's global
/// scale, 1 for formats without one.
double fused_alpha_factor(const ExpertMatrix& down, std::int64_t expert);

}  // namespace switchyard::moe
