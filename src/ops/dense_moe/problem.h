#pragma once

#include <cstdint>
#include <span>

#include "switchyard/weights.h"

namespace switchyard::dense_moe {

/// y[t, e I + j] = silu(a g) (a u) post[t, e] with a = alpha[e], g = x[t, :] . w[e, j, :] and
/// u = x[t, :] . w[e, I + j, :]. The weights' global scale is not applied: it is part of alpha.
///
///   x  [T, H]   alpha  [E]   post  [T, E] or empty   y  [T, E I]
void fc1_reference(const ExpertMatrix& weights, std::span<const double> x,
                   std::span<const float> alpha, std::span<const float> post, std::span<double> y);

/// y[t, h] = sum over e of alpha[t, e] * (x[t, e I ..] . w[e, h, :]). No global scale either.
///
///   x  [T, E I]   alpha  [T, E]   y  [T, H]
void fc2_reference(const ExpertMatrix& weights, std::span<const double> x,
                   std::span<const float> alpha, std::span<double> y);

}  // namespace switchyard::dense_moe
