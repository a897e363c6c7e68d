// The single operations.

#include "switchyard/ops.h"

#include <cstdint>
#include <string_view>

#include "c_api/handles.h"
#include "c_api/status.h"
#include "c_api/tensors.h"

using namespace switchyard;
using namespace switchyard::c_api;

extern "C" {

int switchyard_route(const SwitchyardConfig* config, const SwitchyardTensor* logits,
                     const SwitchyardTensor* correction_bias, const SwitchyardTensor* expert_ids,
                     const SwitchyardTensor* expert_weights) {
  return guarded([&] {
    constexpr std::string_view kWhere = "route";
    ops::RouteArgs args;
    args.logits = view_of(&given(logits, "logits"), kWhere, "logits");
    args.correction_bias = view_of(correction_bias, kWhere, "correction_bias");
    args.expert_ids = view_of(&given(expert_ids, "expert_ids"), kWhere, "expert_ids");
    args.expert_weights =
        view_of(&given(expert_weights, "expert_weights"), kWhere, "expert_weights");
    const MoeConfig& layer = given(config, "config").config;
    const std::int64_t scores = layer.experts + layer.routing.zero_experts;
    require(args.logits.shape.rank() != 2 || args.logits.shape[1] == scores,
            "[route] logits: expected [T, {}], the config's experts, got {}.", scores,
            to_string(args.logits.shape));
    ops::route(layer.routing, args);
  });
}

int switchyard_group_by_expert(const SwitchyardTensor* expert_ids, const SwitchyardTensor* offsets,
                               const SwitchyardTensor* rows) {
  return guarded([&] {
    constexpr std::string_view kWhere = "group_by_expert";
    ops::group_by_expert(view_of(&given(expert_ids, "expert_ids"), kWhere, "expert_ids"),
                         view_of(&given(offsets, "offsets"), kWhere, "offsets"),
                         view_of(&given(rows, "rows"), kWhere, "rows"));
  });
}

int switchyard_grouped_gemm(const SwitchyardWeights* weights, const char* matrix,
                            const SwitchyardConfig* activation, int top_k,
                            const SwitchyardTensor* x, const SwitchyardTensor* offsets,
                            const SwitchyardTensor* rows, const SwitchyardTensor* out) {
  return guarded([&] {
    constexpr std::string_view kWhere = "grouped_gemm";
    ops::GroupedGemmArgs args;
    args.x = view_of(&given(x, "x"), kWhere, "x");
    args.offsets = view_of(&given(offsets, "offsets"), kWhere, "offsets");
    args.rows = view_of(rows, kWhere, "rows");
    args.top_k = top_k;
    args.weights = &matrix_named(given(weights, "weights").weights, &given(matrix, "matrix"));
    args.activation = activation == nullptr ? nullptr : &activation->config.activation;
    args.out = view_of(&given(out, "out"), kWhere, "out");
    ops::grouped_gemm(args);
  });
}

int switchyard_finalize(const SwitchyardTensor* expert_out, const SwitchyardTensor* rows,
                        const SwitchyardTensor* expert_weights, const SwitchyardTensor* out) {
  return guarded([&] {
    constexpr std::string_view kWhere = "finalize";
    ops::FinalizeArgs args;
    args.expert_out = view_of(&given(expert_out, "expert_out"), kWhere, "expert_out");
    args.rows = view_of(&given(rows, "rows"), kWhere, "rows");
    args.expert_weights =
        view_of(&given(expert_weights, "expert_weights"), kWhere, "expert_weights");
    args.out = view_of(&given(out, "out"), kWhere, "out");
    ops::finalize(args);
  });
}
}
