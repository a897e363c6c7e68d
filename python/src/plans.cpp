// Layers, plans and their calls.

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <string>
#include <string_view>
#include <utility>

#include "python/src/arrays.h"
#include "python/src/handles.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace switchyard::python {
namespace {

/// The arrays of one call, kept alive while it runs.
class Call {
 public:
  explicit Call(const nb::kwargs& arrays) {
    for (const auto& [key, value] : arrays) set(nb::cast<std::string_view>(key), value);
  }
  const SwitchyardCall* get() noexcept {
    SwitchyardCall call = {};
    call.struct_size = sizeof call;
    for (const Slot& slot : kSlots) call.*slot.field = arrays_[index(slot)].get();
    call_ = call;
    return &call_;
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
  static std::size_t index(const Slot& slot) { return static_cast<std::size_t>(&slot - kSlots); }

  void set(std::string_view name, nb::handle array) {
    for (const Slot& slot : kSlots)
      if (slot.name == name) {
        arrays_[index(slot)] = Array(array, name, slot.access);
        return;
      }
    raise_invalid("[python] '" + std::string(name) + "': not an array of a call.");
  }

  Array arrays_[std::size(kSlots)];
  SwitchyardCall call_ = {};
};

void bind_layer(nb::module_& m) {
  nb::class_<Layer>(m, "Layer")
      .def(
          "__init__",
          [](Layer* self, const Config& config, Weights& weights, const std::string& device,
             int threads) {
            Layer made;
            int status = SWITCHYARD_OK;
            {
              const nb::gil_scoped_release release;
              status = switchyard_layer_create(config.get(), weights.get(), device.c_str(), threads,
                                               made.put());
            }
            check(status);
            new (self) Layer(std::move(made));
          },
          "config"_a, "weights"_a, "device"_a, "threads"_a)
      .def(
          "plan",
          [](const Layer& self, int max_tokens) {
            Plan made;
            int status = SWITCHYARD_OK;
            {
              const nb::gil_scoped_release release;
              status = switchyard_plan_create(self.get(), max_tokens, made.put());
            }
            check(status);
            return made;
          },
          "max_tokens"_a);
}

void bind_plan(nb::module_& m) {
  nb::class_<Plan>(m, "Plan")
      .def_prop_ro("max_tokens",
                   [](const Plan& self) {
                     int tokens = 0;
                     std::size_t bytes = 0;
                     check(switchyard_plan_info(self.get(), &tokens, &bytes));
                     return tokens;
                   })
      .def_prop_ro("workspace_bytes",
                   [](const Plan& self) {
                     int tokens = 0;
                     std::size_t bytes = 0;
                     check(switchyard_plan_info(self.get(), &tokens, &bytes));
                     return bytes;
                   })
      .def("explain", [](const Plan& self) { return text_of(switchyard_plan_explain, self.get()); })
      .def("run",
           [](const Plan& self, const nb::kwargs& arrays) {
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
      .def("enqueue", [](const Plan& self, std::uintptr_t stream, const nb::kwargs& arrays) {
        Call call(arrays);
        check(switchyard_plan_enqueue(self.get(), call.get(), reinterpret_cast<void*>(stream)));
      });
}

}  // namespace

void bind_plans(nb::module_& m) {
  bind_layer(m);
  bind_plan(m);
}

}  // namespace switchyard::python
