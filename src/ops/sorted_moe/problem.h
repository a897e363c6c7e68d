#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "switchyard/weights.h"

namespace switchyard::sorted_moe {

/// What grouped GEMM kernels with padded segments read (spec 7.1): every expert's rows padded to a
/// multiple of `tile`.
struct TileMap {
  std::vector<std::int32_t> expert_of_tile;     ///< [tiles]
  std::vector<std::int32_t> row_limit_of_tile;  ///< [tiles]  end of the expert's valid rows
  std::vector<std::int32_t> permuted_of_slot;   ///< [T K]  -1 = the slot has no row
  std::vector<std::int32_t> slot_of_permuted;   ///< [tiles * tile]  token * K + slot, -1 = padding
};

/// Ids outside of [0, experts) have no row. Order within an expert: token * K + slot ascending.
TileMap tile_map(std::span<const std::int32_t> expert_ids, int experts, int tile);

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
