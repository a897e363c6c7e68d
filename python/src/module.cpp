// The module switchyard._core: the C API as Python objects. switchyard/*.py is what users see.

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python/src/arrays.h"
#include "python/src/errors.h"
#include "switchyard/c_api.h"

namespace nb = nanobind;
using namespace nb::literals;
using switchyard::python::Access;
using switchyard::python::Array;
using switchyard::python::check;

namespace {

/// A handle and the function that destroys it.
template <class T, void (*destroy)(T*)>
class Handle {
 public:
  T** put() noexcept { return &handle_; }
  T* get() const noexcept { return handle_; }
  Handle() = default;
  Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Handle& operator=(Handle&&) = delete;
  ~Handle() { destroy(handle_); }

 private:
  T* handle_ = nullptr;
};

using Config = Handle<SwitchyardConfig, switchyard_config_destroy>;
using Weights = Handle<SwitchyardWeights, switchyard_weights_destroy>;
using Checkpoint = Handle<SwitchyardCheckpoint, switchyard_checkpoint_destroy>;
using Layer = Handle<SwitchyardLayer, switchyard_layer_destroy>;
using Plan = Handle<SwitchyardPlan, switchyard_plan_destroy>;
using Text = std::optional<std::string>;

const char* or_null(const Text& text) {
  return text ? text->c_str() : nullptr;
}

/// The text that a function of the C API returns.
template <class Function, class... Args>
std::string text_of(Function function, Args... args) {
  char* text = nullptr;
  check(function(args..., &text));
  const std::unique_ptr<char, void (*)(char*)> owned(text, switchyard_text_free);
  return text;
}

void bind_config(nb::module_& m) {
  const auto info = [](const Config& config) {
    SwitchyardConfigInfo all;
    check(switchyard_config_info(config.get(), &all));
    return all;
  };
  nb::class_<Config>(m, "Config")
      .def(
          "__init__",
          [](Config* self, const std::string& line, const std::vector<std::int32_t>& expert_map) {
            Config made;
            check(switchyard_config_parse(line.c_str(), expert_map.data(),
                                          static_cast<std::int64_t>(expert_map.size()),
                                          made.put()));
            new (self) Config(std::move(made));
          },
          "line"_a, "expert_map"_a = std::vector<std::int32_t>())
      .def_prop_ro("line", [=](const Config& c) { return std::string(info(c).line); })
      .def_prop_ro("hidden", [=](const Config& c) { return info(c).hidden; })
      .def_prop_ro("latent", [=](const Config& c) { return info(c).latent; })
      .def_prop_ro("intermediate", [=](const Config& c) { return info(c).intermediate; })
      .def_prop_ro("experts", [=](const Config& c) { return info(c).experts; })
      .def_prop_ro("zero_experts", [=](const Config& c) { return info(c).zero_experts; })
      .def_prop_ro("top_k", [=](const Config& c) { return info(c).top_k; })
      .def_prop_ro("shared_intermediate",
                   [=](const Config& c) { return info(c).shared_intermediate; })
      .def_prop_ro("gated", [=](const Config& c) { return info(c).gated != 0; })
      .def_prop_ro("expert_map", [=](const Config& c) {
        const SwitchyardConfigInfo i = info(c);
        return std::vector<std::int32_t>(i.expert_map, i.expert_map + i.expert_map_entries);
      });
}

void bind_weights(nb::module_& m) {
  nb::class_<Weights>(m, "Weights")
      .def("__init__",
           [](Weights* self) {
             Weights made;
             check(switchyard_weights_create(made.put()));
             new (self) Weights(std::move(made));
           })
      .def("clone",
           [](const Weights& self) {
             Weights made;
             check(switchyard_weights_clone(self.get(), made.put()));
             return made;
           })
      .def(
          "set_format",
          [](Weights& self, const std::string& matrix, const std::string& format) {
            check(switchyard_weights_set_format(self.get(), matrix.c_str(), format.c_str()));
          },
          "matrix"_a, "format"_a)
      .def(
          "format",
          [](const Weights& self, const std::string& matrix) {
            return text_of(switchyard_weights_format, self.get(), matrix.c_str());
          },
          "matrix"_a)
      .def(
          "set",
          [](Weights& self, const std::string& name, nb::object array, const std::string& dtype) {
            const Array from(array, name, dtype);
            check(switchyard_weights_set(self.get(), name.c_str(), from.get()));
          },
          "name"_a, "array"_a, "dtype"_a = "")
      .def(
          "get",
          [](nb::object self, const std::string& name) {
            SwitchyardTensor view;
            check(switchyard_weights_get(nb::cast<Weights&>(self).get(), name.c_str(), &view));
            return switchyard::python::to_numpy(view, self);
          },
          "name"_a, nb::sig("def get(self, name: str) -> tuple[numpy.ndarray, str] | None"))
      .def(
          "quantize",
          [](Weights& self, const std::string& matrix, nb::object values, const std::string& dtype,
             const std::string& format, int parts) {
            const Array from(values, matrix, dtype);
            int status = SWITCHYARD_OK;
            {
              const nb::gil_scoped_release release;
              status = switchyard_weights_quantize(self.get(), matrix.c_str(), from.get(),
                                                   format.c_str(), parts);
            }
            check(status);
          },
          "matrix"_a, "values"_a, "dtype"_a, "format"_a, "parts"_a)
      .def(
          "dequantize",
          [](const Weights& self, const std::string& matrix, nb::object out) {
            const Array to(out, "out", Access::write);
            check(switchyard_weights_dequantize(self.get(), matrix.c_str(), to.get()));
          },
          "matrix"_a, "out"_a);
}

nb::dict describe(const SwitchyardCheckpointLayer& layer) {
  nb::dict all;
  all["layer"] = layer.layer;
  all["prefix"] = layer.prefix;
  all["scheme"] = layer.scheme;
  all["gate_up"] = layer.gate_up;
  all["down"] = layer.down;
  all["expert_bytes"] = layer.expert_bytes;
  all["other_bytes"] = layer.other_bytes;
  return all;
}

void bind_checkpoint(nb::module_& m) {
  nb::class_<Checkpoint>(m, "Checkpoint")
      .def(
          "__init__",
          [](Checkpoint* self, const std::string& directory) {
            Checkpoint made;
            check(switchyard_checkpoint_open(directory.c_str(), made.put()));
            new (self) Checkpoint(std::move(made));
          },
          "directory"_a)
      .def_prop_ro("family",
                   [](const Checkpoint& self) {
                     const char* family = nullptr;
                     std::int64_t layers = 0;
                     check(switchyard_checkpoint_info(self.get(), &family, &layers));
                     return std::string(family);
                   })
      .def_prop_ro("layers",
                   [](const Checkpoint& self) {
                     const char* family = nullptr;
                     std::int64_t layers = 0;
                     check(switchyard_checkpoint_info(self.get(), &family, &layers));
                     nb::list all;
                     for (std::int64_t i = 0; i < layers; ++i) {
                       SwitchyardCheckpointLayer layer;
                       check(switchyard_checkpoint_layer(self.get(), i, &layer));
                       all.append(describe(layer));
                     }
                     return all;
                   })
      .def(
          "config",
          [](const Checkpoint& self, int layer, const Text& tp, const Text& ep) {
            Config made;
            check(switchyard_checkpoint_config(self.get(), layer, or_null(tp), or_null(ep),
                                               made.put()));
            return made;
          },
          "layer"_a, "tp"_a = nb::none(), "ep"_a = nb::none())
      .def(
          "load",
          [](const Checkpoint& self, int layer, const Text& tp, const Text& ep) {
            Weights made;
            int status = SWITCHYARD_OK;
            {
              const nb::gil_scoped_release release;
              status = switchyard_checkpoint_load(self.get(), layer, or_null(tp), or_null(ep),
                                                  made.put());
            }
            check(status);
            return made;
          },
          "layer"_a, "tp"_a = nb::none(), "ep"_a = nb::none());
}

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
    switchyard::python::raise_invalid("[python] '" + std::string(name) +
                                      "': not an array of a call.");
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

void bind_functions(nb::module_& m) {
  m.def("version", &switchyard_version);
  m.def(
      "route",
      [](const Config& config, nb::object logits, nb::object correction_bias, nb::object expert_ids,
         nb::object expert_weights) {
        const Array in(logits, "logits"), bias(correction_bias, "correction_bias"),
            ids(expert_ids, "expert_ids", Access::write),
            weights(expert_weights, "expert_weights", Access::write);
        check(switchyard_route(config.get(), in.get(), bias.get(), ids.get(), weights.get()));
      },
      "config"_a, "logits"_a, "correction_bias"_a.none(), "expert_ids"_a, "expert_weights"_a);
  m.def(
      "check",
      [](const std::string& line, std::uint64_t seed, const std::string& device) {
        SwitchyardCheckReport report;
        int status = SWITCHYARD_OK;
        {
          const nb::gil_scoped_release release;
          status = switchyard_check(line.c_str(), seed, device.c_str(), &report);
        }
        check(status);
        return nb::make_tuple(report.error_ratio, report.max_abs_error, report.zeros,
                              report.finite_match != 0, report.repeatable != 0,
                              report.routing_exact != 0, report.passed != 0);
      },
      "line"_a, "seed"_a, "device"_a);
  m.def(
      "preset",
      [](const std::string& name, int tokens) {
        return text_of(switchyard_preset, name.c_str(), tokens);
      },
      "name"_a, "tokens"_a);
  m.def("preset_names", [] { return text_of(switchyard_preset_names); });
}

}  // namespace

NB_MODULE(_core, m) {
  m.doc() = "The C API of Switchyard as Python objects. Use the package switchyard.";
  bind_config(m);
  bind_weights(m);
  bind_checkpoint(m);
  bind_layer(m);
  bind_plan(m);
  bind_functions(m);
}
