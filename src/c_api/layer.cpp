// Layers, plans and calls.

#include "c_api/handles.h"
#include "c_api/status.h"
#include "c_api/tensors.h"

using namespace switchyard;
using namespace switchyard::c_api;

namespace {

MoeBuffers buffers_of(const SwitchyardCall& call, Place place) {
  require(call.struct_size == sizeof(SwitchyardCall),
          "[moe.run] struct_size: expected {}, got {}. Set it to sizeof(SwitchyardCall).",
          sizeof(SwitchyardCall), call.struct_size);
  const auto view = [&](const SwitchyardTensor* tensor, std::string_view what) {
    return view_of(tensor, "moe.run", what, place);
  };
  MoeBuffers buffers;
  buffers.tokens = view(&given(call.tokens, "tokens"), "tokens");
  buffers.router_logits = view(call.router_logits, "router_logits");
  buffers.expert_ids = view(call.expert_ids, "expert_ids");
  buffers.expert_weights = view(call.expert_weights, "expert_weights");
  buffers.input_ids = view(call.input_ids, "input_ids");
  buffers.out = view(&given(call.out, "out"), "out");
  buffers.chosen_ids = view(call.chosen_ids, "chosen_ids");
  buffers.chosen_weights = view(call.chosen_weights, "chosen_weights");
  buffers.token_count = view(call.token_count, "token_count");
  buffers.counters = view(call.counters, "counters");
  const TensorView workspace = view(call.workspace, "workspace");
  if (workspace)
    buffers.workspace = {workspace.as<std::byte>(), static_cast<std::size_t>(workspace.bytes())};
  return buffers;
}

}  // namespace

extern "C" {

int switchyard_layer_create(const SwitchyardConfig* config, SwitchyardWeights* weights,
                            const char* device, int threads, SwitchyardLayer** layer) {
  return guarded([&] {
    SwitchyardLayer*& result = given(layer, "layer");
    MoeWeights& from = given(weights, "weights").weights;
    Device where = parse_device(&given(device, "device"));
    require(threads == 0 || where.kind == DeviceKind::cpu,
            "[moe] threads: expected 0 on {}, got {}.", device, threads);
    where.threads = threads;
    require(static_cast<bool>(from.experts.gate_up) && static_cast<bool>(from.experts.down),
            "[moe] weights: expected experts.gate_up and experts.down, got none. A layer takes "
            "its weights over: clone them for a second one.");
    MoeLayer made(given(config, "config").config, std::move(from), where);
    from = {};
    result = new SwitchyardLayer{.layer = std::move(made), .device = where};
  });
}

void switchyard_layer_destroy(SwitchyardLayer* layer) {
  delete layer;
}

int switchyard_plan_create(const SwitchyardLayer* layer, int max_tokens, SwitchyardPlan** plan) {
  return guarded([&] {
    SwitchyardPlan*& result = given(plan, "plan");
    const SwitchyardLayer& of = given(layer, "layer");
    result = new SwitchyardPlan{.plan = of.layer.plan(max_tokens), .device = of.device};
  });
}

void switchyard_plan_destroy(SwitchyardPlan* plan) {
  delete plan;
}

int switchyard_plan_info(const SwitchyardPlan* plan, int* max_tokens, size_t* workspace_bytes) {
  return guarded([&] {
    const MoePlan& p = given(plan, "plan").plan;
    given(max_tokens, "max_tokens") = p.max_tokens();
    given(workspace_bytes, "workspace_bytes") = p.workspace_bytes();
  });
}

int switchyard_plan_explain(const SwitchyardPlan* plan, char** text) {
  return guarded([&] { given(text, "text") = text_of(given(plan, "plan").plan.explain()); });
}

int switchyard_plan_run(const SwitchyardPlan* plan, const SwitchyardCall* call, int64_t* counters) {
  return guarded([&] {
    const MoeCounters counted =
        given(plan, "plan").plan.run(buffers_of(given(call, "call"), Place{}));
    if (counters == nullptr) return;
    counters[0] = counted.bad_expert_ids;
    counters[1] = counted.non_finite_weights;
    counters[2] = counted.non_finite_logits;
  });
}

int switchyard_plan_enqueue(const SwitchyardPlan* plan, const SwitchyardCall* call, void* stream) {
  return guarded([&] {
    const SwitchyardPlan& p = given(plan, "plan");
    const Place place{.kind = p.device.kind, .ordinal = p.device.ordinal};
    p.plan.enqueue(buffers_of(given(call, "call"), place), Stream{.handle = stream});
  });
}
}
