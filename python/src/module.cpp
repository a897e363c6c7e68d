// The module switchyard._core: the C API as Python objects. switchyard/*.py is what users see.

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python/src/arrays.h"
#include "python/src/handles.h"
#include "python/src/operators.h"

namespace nb = nanobind;
using namespace nb::literals;
using switchyard::python::Access;
using switchyard::python::Array;
using switchyard::python::check;
using switchyard::python::Checkpoint;
using switchyard::python::Config;
using switchyard::python::text_of;
using switchyard::python::Weights;

namespace {

using Text = std::optional<std::string>;

const char* or_null(const Text& text) {
  return text ? text->c_str() : nullptr;
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
      .def("__repr__",
           [=](const Config& c) { return std::string("Config('") + info(c).line + "')"; })
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
            int status = SWITCHYARD_OK;
            {
              const nb::gil_scoped_release release;
              status = switchyard_weights_set(self.get(), name.c_str(), from.get());
            }
            check(status);
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
      "group_by_expert",
      [](nb::object expert_ids, nb::object offsets, nb::object rows) {
        const Array ids(expert_ids, "expert_ids"), starts(offsets, "offsets", Access::write),
            slots(rows, "rows", Access::write);
        check(switchyard_group_by_expert(ids.get(), starts.get(), slots.get()));
      },
      "expert_ids"_a, "offsets"_a, "rows"_a);
  m.def(
      "grouped_gemm",
      [](const Weights& weights, const std::string& matrix, const Config* activation, int top_k,
         nb::object x, nb::object offsets, nb::object rows, nb::object out) {
        const Array from(x, "x"), starts(offsets, "offsets"), slots(rows, "rows"),
            to(out, "out", Access::write);
        int status = SWITCHYARD_OK;
        {
          const nb::gil_scoped_release release;
          status = switchyard_grouped_gemm(weights.get(), matrix.c_str(),
                                           activation == nullptr ? nullptr : activation->get(),
                                           top_k, from.get(), starts.get(), slots.get(), to.get());
        }
        check(status);
      },
      "weights"_a, "matrix"_a, "activation"_a.none(), "top_k"_a, "x"_a, "offsets"_a,
      "rows"_a.none(), "out"_a);
  m.def(
      "finalize",
      [](nb::object expert_out, nb::object rows, nb::object expert_weights, nb::object out) {
        const Array from(expert_out, "expert_out"), slots(rows, "rows"),
            weights(expert_weights, "expert_weights"), to(out, "out", Access::write);
        check(switchyard_finalize(from.get(), slots.get(), weights.get(), to.get()));
      },
      "expert_out"_a, "rows"_a, "expert_weights"_a, "out"_a);
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
      "tune",
      [](const std::string& lines, const std::optional<std::string>& file, int device) {
        int tuned = 0, status = SWITCHYARD_OK;
        {
          const nb::gil_scoped_release release;
          status = switchyard_tune(lines.c_str(), file ? file->c_str() : nullptr, device, &tuned);
        }
        check(status);
        return tuned;
      },
      "lines"_a, "file"_a.none(), "device"_a);
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
  switchyard::python::bind_plans(m);
  switchyard::python::bind_operators(m);
  bind_functions(m);
}
