// Layers, plans and their calls.

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "python/src/arrays.h"
#include "python/src/exchange.h"
#include "python/src/handles.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace switchyard::python {
namespace {

/// The arrays of one call, in the order of kSlots, kept alive while it runs.
class Call {
 public:
  explicit Call(const nb::args& arrays) {
    if (arrays.size() != std::size(kSlots))
      raise_invalid("[python] a call has 11 arrays or Nones.");
    for (std::size_t i = 0; i < std::size(kSlots); ++i)
      if (!arrays[i].is_none()) arrays_[i] = Array(arrays[i], kSlots[i].name, kSlots[i].access);
  }

  const SwitchyardCall* get() noexcept {
    call_.struct_size = sizeof call_;
    for (std::size_t i = 0; i < std::size(kSlots); ++i)
      if (arrays_[i].get() != nullptr) call_.*kSlots[i].field = arrays_[i].get();
    return &call_;
  }

  /// The workspace, from the tokens' framework, if there is none; and that framework's stream.
  void* complete(std::size_t workspace_bytes) {
    const Array& tokens = arrays_[0];
    if (tokens.exchange() == nullptr)
      raise_invalid(
          "[python] tokens: expected a torch.Tensor of PyTorch 2.10 or later where no stream is "
          "given.");
    if (arrays_[kWorkspace].get() == nullptr) {
      workspace_ = allocate(*tokens.exchange(), *tokens.get(), workspace_bytes);
      call_.workspace = &workspace_->tensor;
    }
    return current_stream(*tokens.exchange(), *tokens.get());
  }

 private:
  struct Slot {
    std::string_view name;
    const SwitchyardTensor* SwitchyardCall::*field;
    Access access;
  };
  static constexpr Slot kSlots[] = {
      {"tokens", &SwitchyardCall::tokens, Access::read},
      {"router_logits", &SwitchyardCall::router_logits, Access::read},
      {"expert_ids", &SwitchyardCall::expert_ids, Access::read},
      {"expert_weights", &SwitchyardCall::expert_weights, Access::read},
      {"input_ids", &SwitchyardCall::input_ids, Access::read},
      {"out", &SwitchyardCall::out, Access::write},
      {"chosen_ids", &SwitchyardCall::chosen_ids, Access::write},
      {"chosen_weights", &SwitchyardCall::chosen_weights, Access::write},
      {"workspace", &SwitchyardCall::workspace, Access::write},
      {"token_count", &SwitchyardCall::token_count, Access::read},
      {"counters", &SwitchyardCall::counters, Access::write},
  };
  static constexpr std::size_t kWorkspace = 8;

  Array arrays_[std::size(kSlots)];
  OwnedTensor workspace_{nullptr, nullptr};
  SwitchyardCall call_ = {};
};

Plan make_plan(const Layer& layer, int max_tokens) {
  SwitchyardPlan* made = nullptr;
  int status = SWITCHYARD_OK;
  {
    const nb::gil_scoped_release release;
    status = switchyard_plan_create(layer.handle.get(), max_tokens, &made);
  }
  check(status);
  Plan plan{.handle = {made, switchyard_plan_destroy}, .on_gpu = layer.on_gpu};
  check(switchyard_plan_info(made, &plan.max_tokens, &plan.workspace_bytes));
  return plan;
}

void bind_layer(nb::module_& m) {
  nb::class_<Layer>(m, "Layer")
      .def(
          "__init__",
          [](Layer* self, const Config& config, Weights& weights, const std::string& device,
             int threads) {
            Layer made;
            made.on_gpu = device != "cpu";
            int status = SWITCHYARD_OK;
            {
              const nb::gil_scoped_release release;
              status = switchyard_layer_create(config.get(), weights.get(), device.c_str(), threads,
                                               made.handle.put());
            }
            check(status);
            new (self) Layer(std::move(made));
          },
          "config"_a, "weights"_a, "device"_a, "threads"_a)
      .def("plan", &make_plan, "max_tokens"_a);
}

void bind_plan(nb::module_& m) {
  nb::class_<Plan>(m, "Plan")
      .def_ro("max_tokens", &Plan::max_tokens)
      .def_ro("workspace_bytes", &Plan::workspace_bytes)
      .def("explain", [](const Plan& self) { return text_of(switchyard_plan_explain, self.get()); })
      .def("run",
           [](const Plan& self, const nb::args& arrays) {
             Call call(arrays);
             std::int64_t counters[3] = {};
             int status = SWITCHYARD_OK;
             {
               const nb::gil_scoped_release release;
               status = switchyard_plan_run(self.get(), call.get(), counters);
             }
             check(status);
             return nb::make_tuple(counters[0], counters[1], counters[2]);
           })
      .def("enqueue",
           [](const Plan& self, std::optional<std::uintptr_t> stream, const nb::args& arrays) {
             Call call(arrays);
             void* const on =
                 stream ? reinterpret_cast<void*>(*stream) : call.complete(self.workspace_bytes);
             check(switchyard_plan_enqueue(self.get(), call.get(), on));
           });
}

}  // namespace

void bind_plans(nb::module_& m) {
  bind_layer(m);
  bind_plan(m);
}

}  // namespace switchyard::python
