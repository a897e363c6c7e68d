#include "python/src/exchange.h"

#include <nanobind/stl/string_view.h>

#include <string_view>

namespace nb = nanobind;

namespace switchyard::python {
namespace {

constexpr const char* kCapsule = "dlpack_exchange_api";

/// The table of torch.Tensor itself, if that is `type` and its table is one of version 1.
const Exchange* torch_exchange(nb::handle type) {
  if (nb::cast<std::string_view>(type.attr("__name__")) != "Tensor" ||
      nb::cast<std::string_view>(type.attr("__module__")) != "torch")
    return nullptr;
  const nb::object capsule = nb::getattr(type, "__dlpack_c_exchange_api__", nb::none());
  if (!PyCapsule_IsValid(capsule.ptr(), kCapsule)) return nullptr;
  const auto* table = static_cast<const Exchange*>(PyCapsule_GetPointer(capsule.ptr(), kCapsule));
  return table->major == 1 && table->view != nullptr ? table : nullptr;
}

void set_error(void*, const char*, const char* text) {
  PyErr_SetString(PyExc_RuntimeError, text);
}

}  // namespace

const Exchange* exchange_of(nb::handle object) {
  // Both types once torch.Tensor was seen; written under the GIL, and never destroyed.
  static PyObject *tensor = nullptr, *parameter = nullptr;
  static const Exchange* table = nullptr;
  const nb::handle type = object.type();
  if (table == nullptr) {
    table = torch_exchange(type);
    if (table == nullptr) return nullptr;
    tensor = type.inc_ref().ptr();
    parameter = nb::module_::import_("torch.nn").attr("Parameter").inc_ref().ptr();
  }
  return type.ptr() == tensor || type.ptr() == parameter ? table : nullptr;
}

OwnedTensor allocate(const Exchange& exchange, const SwitchyardTensor& like, std::size_t count) {
  auto extent = static_cast<std::int64_t>(count);
  SwitchyardTensor prototype = {};
  prototype.device = like.device;
  prototype.ndim = 1;
  prototype.dtype = {1, 8, 1};
  prototype.shape = &extent;
  ManagedTensor* made = nullptr;
  if (exchange.allocate(&prototype, &made, nullptr, set_error) != 0) throw nb::python_error();
  return {made, made->deleter};
}

void* current_stream(const Exchange& exchange, const SwitchyardTensor& on) {
  void* stream = nullptr;
  if (exchange.current_stream(on.device.type, on.device.id, &stream) != 0) throw nb::python_error();
  return stream;
}

}  // namespace switchyard::python
