#pragma once

#include "moe/state.h"

namespace switchyard::moe {

/// Steps, variants and the workspace of a layer for at most `max_tokens` tokens. Pure: touches no
/// weight. Throws InvalidArgument for max_tokens < 0, Unsupported if `choice` forces a variant
/// that cannot serve the layer.
PlanState make_plan(const MoeState& layer, int max_tokens, grouped_gemm::Choice choice = {});

/// Throws InvalidArgument, naming the field or tensor, unless the weights fit the config.
void validate(const MoeConfig& config, const MoeWeights& weights);

/// Where a call's arrays lie.
enum class Memory { host, device };

/// Throws InvalidArgument, naming the argument, unless `buffers` suit the plan. Writes nothing.
void check_arguments(const MoeState& layer, const PlanState& plan, const MoeBuffers& buffers,
                     Memory memory = Memory::host);

/// The layer's arithmetic; arguments have been checked.
MoeCounters run_cpu(const MoeState& layer, const PlanState& plan, const MoeBuffers& buffers);

/// Workspace that one thread needs for routing.
std::int64_t route_scratch_bytes(const MoeState& layer);

/// The plan as `switchyard explain` prints it.
std::string explain(const MoeState& layer, const PlanState& plan);

}  // namespace switchyard::moe
