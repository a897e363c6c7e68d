#include "python/src/errors.h"

#include <nanobind/nanobind.h>

#include "switchyard/c_api.h"

namespace nb = nanobind;

namespace switchyard::python {
namespace {

const char* exception_of(int status) {
  switch (status) {
    case SWITCHYARD_INVALID_ARGUMENT:
      return "InvalidArgument";
    case SWITCHYARD_UNSUPPORTED:
      return "Unsupported";
    case SWITCHYARD_DEVICE_ERROR:
      return "DeviceError";
    default:
      return "Error";
  }
}

}  // namespace

void raise(int status, const std::string& text) {
  const nb::object type = nb::module_::import_("switchyard._errors").attr(exception_of(status));
  PyErr_SetString(type.ptr(), text.c_str());
  throw nb::python_error();
}

void check(int status) {
  if (status != SWITCHYARD_OK) raise(status, switchyard_last_error());
}

void raise_invalid(const std::string& text) {
  raise(SWITCHYARD_INVALID_ARGUMENT, text);
}

}  // namespace switchyard::python
