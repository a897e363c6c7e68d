#include "python/src/errors.h"

#include <nanobind/nanobind.h>

#include "switchyard/c_api.h"

namespace nb = nanobind;

namespace switchyard::python {
namespace {

[[noreturn]] void raise(const char* type, const char* text) {
  const nb::object exception = nb::module_::import_("switchyard._errors").attr(type);
  PyErr_SetString(exception.ptr(), text);
  throw nb::python_error();
}

}  // namespace

void check(int status) {
  switch (status) {
    case SWITCHYARD_OK:
      return;
    case SWITCHYARD_INVALID_ARGUMENT:
      raise("InvalidArgument", switchyard_last_error());
    case SWITCHYARD_UNSUPPORTED:
      raise("Unsupported", switchyard_last_error());
    case SWITCHYARD_DEVICE_ERROR:
      raise("DeviceError", switchyard_last_error());
    default:
      raise("Error", switchyard_last_error());
  }
}

void raise_invalid(const std::string& text) {
  raise("InvalidArgument", text.c_str());
}

}  // namespace switchyard::python
