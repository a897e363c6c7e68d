#pragma once

#include <cstdint>
#include <span>

#include "switchyard/weights.h"

namespace switchyard::sorted_moe {

/// A row of a tile that some (token, slot) has.
struct Row {
  std::int64_t row, expert, pair;  // pair: token * K + slot
};

/// y[p, j] = silu(a g) (a u) with a = alpha[e], g = x[token, :] . w[e, j, :] and
/// u = x[token, :] . w[e, I + j, :], for the given rows p. No global scale.
///
///   x  [T, H]   alpha  [L]   y  [R, I]
void fc1_reference(const ExpertMatrix& weights, std::span<const Row> rows, int top_k,
                   std::span<const double> x, std::span<const float> alpha, std::span<double> y);

/// y[t, h] = sum over t's rows p of weight[t, slot] alpha[e] (x[p, :] . w[e, h, :]).
///
///   x  [R, I]   alpha  [L]   weights_of_pairs  [T, K]   y  [T, H]
void fc2_reference(const ExpertMatrix& weights, std::span<const Row> rows, int top_k,
                   std::span<const double> x, std::span<const float> alpha,
                   std::span<const float> weights_of_pairs, std::span<double> y);

}  // namespace switchyard::sorted_moe
