#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "jit/sources.h"
#include "moe/gpu_plan.h"
#include "tune/store.h"

/// Variants by what was measured, where it was; by the cost model elsewhere.
namespace switchyard::moe {

/// Where measured times hold: such a GPU, these kernels, this driver and compiler. What counts of a
/// kernel is its code: comments may change.
tune::Place place_of(const cuda::DeviceInfo& device);

/// What a layer's picks for `tokens` tokens are stored under (tune/buckets.h); empty if no problem
/// line says what the layer is: ranks with different numbers of experts.
std::optional<std::string> pick_key(const GpuShape& shape, int tokens);

/// The user's file, SWITCHYARD_CACHE_DIR/tuning.jsonl; empty if neither it nor a home is set.
std::filesystem::path picks_file();

/// Tables that come with the library.
std::span<const jit::EmbeddedSource> shipped_picks();

/// Shipped picks and the user's, for `device`. A file that cannot be read costs a line of the log.
tune::Table picks(const cuda::DeviceInfo& device);

/// The candidate that `table` has picked for the bucket of `tokens`; for the bucket above if that
/// one serves no batch of this size (fused_moe ends at 128); empty if neither was measured.
std::optional<GpuExperts> picked(const tune::Table& table, const GpuShape& shape, int tokens,
                                 const cuda::DeviceInfo& device);

/// make_gpu_plan() with what picks() has, or the cost model's choice.
GpuPlan tuned_plan(const GpuShape& shape, int tokens, const cuda::DeviceInfo& device);

}  // namespace switchyard::moe
