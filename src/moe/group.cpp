#include "moe/group.h"

#include <algorithm>
#include <cmath>

namespace switchyard::moe {
namespace {

/// The local expert of slot `j` of a token, kNoRow or kZeroExpert.
std::int32_t destination(const MoeConfig& config, const std::int32_t* ids, const float* weights,
                         int j) {
  const std::int32_t id = ids[j];
  if (id < 0 || !std::isfinite(weights[j])) return kNoRow;
  if (config.dense && std::find(ids + j + 1, ids + config.top_k, id) != ids + config.top_k) {
    return kNoRow;
  }
  const auto at = static_cast<std::size_t>(id);
  const bool mapped = at < config.expert_map.size();
  if (mapped && config.expert_map[at] < 0) return kNoRow;
  if (id >= config.experts) return kZeroExpert;
  return mapped ? config.expert_map[at] : id;
}

}  // namespace

std::int32_t expert_of_row(const Groups& groups, std::int64_t row) {
  const std::int32_t* end =
      std::upper_bound(groups.active, groups.active + groups.active_count, row,
                       [&](std::int64_t r, std::int32_t e) { return r < groups.offsets[e]; });
  return *(end - 1);
}

GroupSlices plan_groups(Arena& arena, std::int64_t local_experts, std::int64_t slots) {
  return {.offsets = arena.take<std::int32_t>(local_experts + 1),
          .active = arena.take<std::int32_t>(local_experts),
          .token_of_row = arena.take<std::int32_t>(slots),
          .slot_of_row = arena.take<std::int32_t>(slots),
          .row_of_slot = arena.take<std::int32_t>(slots)};
}

Groups group(const MoeConfig& config, std::int64_t local_experts, const std::int32_t* ids,
             const float* weights, std::int64_t tokens, const GroupSlices& slices,
             std::span<std::byte> workspace) {
  Groups g{.offsets = slices.offsets.in<std::int32_t>(workspace),
           .active = slices.active.in<std::int32_t>(workspace),
           .token_of_row = slices.token_of_row.in<std::int32_t>(workspace),
           .slot_of_row = slices.slot_of_row.in<std::int32_t>(workspace),
           .row_of_slot = slices.row_of_slot.in<std::int32_t>(workspace)};
  // A counting sort; `active` holds each expert's next free row until the rows are placed.
  std::fill_n(g.offsets, local_experts + 1, 0);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int64_t first = t * config.top_k;
    for (int j = 0; j < config.top_k; ++j) {
      const std::int32_t expert = destination(config, ids + first, weights + first, j);
      g.row_of_slot[first + j] = expert;
      if (expert >= 0) ++g.offsets[expert + 1];
    }
  }
  for (std::int64_t e = 0; e < local_experts; ++e) {
    g.offsets[e + 1] += g.offsets[e];
    g.active[e] = g.offsets[e];
  }
  for (std::int64_t slot = 0; slot < tokens * config.top_k; ++slot) {
    const std::int32_t expert = g.row_of_slot[slot];
    if (expert < 0) continue;
    const std::int32_t row = g.active[expert]++;
    g.row_of_slot[slot] = row;
    g.slot_of_row[row] = static_cast<std::int32_t>(slot);
    g.token_of_row[row] = static_cast<std::int32_t>(slot / config.top_k);
  }
  g.rows = g.offsets[local_experts];
  for (std::int32_t e = 0; e < local_experts; ++e) {
    if (g.offsets[e + 1] > g.offsets[e]) g.active[g.active_count++] = e;
  }
  return g;
}

}  // namespace switchyard::moe
