#pragma once

#include <cstdint>
#include <span>

#include "moe/workspace.h"
#include "switchyard/moe.h"

namespace switchyard::moe {

/// Where a (token, slot) pair's row stands when it has none.
inline constexpr std::int32_t kNoRow = -1;
inline constexpr std::int32_t kZeroExpert = -2;  ///< the expert's output is its input

/// The batch's (token, slot) pairs grouped by local expert, stable in (token, slot).
struct Groups {
  std::int32_t* offsets;       ///< [E + 1]  rows of expert e: [offsets[e], offsets[e + 1])
  std::int32_t* active;        ///< [E]  the first active_count: experts that have rows
  std::int32_t* token_of_row;  ///< [T K]
  std::int32_t* slot_of_row;   ///< [T K]  token * K + slot
  std::int32_t* row_of_slot;   ///< [T K]  a row, kNoRow or kZeroExpert
  std::int64_t active_count = 0;
  std::int64_t rows = 0;
};

/// The expert whose group holds `row`.
std::int32_t expert_of_row(const Groups& groups, std::int64_t row);

struct GroupSlices {
  Slice offsets, active, token_of_row, slot_of_row, row_of_slot;
};

GroupSlices plan_groups(Arena& arena, std::int64_t local_experts, std::int64_t slots);

/// Slots with id -1, experts of other ranks (expert_map) and non-finite weights get no row; with
/// MoeConfig::dense neither do all but the last slot of a repeated id.
///
///   ids, weights  [T, K], ids in [-1, E + zero experts)
Groups group(const MoeConfig& config, std::int64_t local_experts, const std::int32_t* ids,
             const float* weights, std::int64_t tokens, const GroupSlices& slices,
             std::span<std::byte> workspace);

}  // namespace switchyard::moe
