#pragma once

#include <string>
#include <string_view>

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

/// A GPU plan for at most `max_tokens` as what a layer runs and explains.
PlanState plan_state(GpuPlan plan, int max_tokens);

/// Throws InvalidArgument unless a layer with `top_k` can be planned for so many tokens.
void check_max_tokens(int max_tokens, int top_k);

/// The plan as `switchyard explain` prints it; `device` says what runs it.
std::string explain(std::string_view device, const PlanState& plan);

}  // namespace switchyard::moe
