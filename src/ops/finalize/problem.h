#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "switchyard/ops.h"

namespace switchyard::finalize {

/// The definition: out[t, :] = sum over j in order of weight[t, j] * expert_out[row of (t, j), :].
///
///   expert_out  [R, H]      rows  [R]  token * K + slot      weights  [T, K]      out  [T, H]
void reference(std::span<const double> expert_out, std::span<const std::int32_t> rows,
               std::span<const double> weights, int top_k, std::span<double> out);

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

}  // namespace switchyard::finalize
