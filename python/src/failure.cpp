#include "python/src/failure.h"

#include <utility>

#include "python/src/errors.h"
#include "switchyard/c_api.h"

namespace nb = nanobind;

namespace switchyard::python {

Failure::Failure(int status, const std::string& text)
    : pybind11::builtin_exception(text), status_(status) {}

Failure::Failure(std::shared_ptr<nb::python_error> raised)
    : pybind11::builtin_exception(nb::str(raised->value()).c_str()),
      status_(SWITCHYARD_INTERNAL),
      raised_(std::move(raised)) {}

void Failure::set_error() const {
  if (raised_ != nullptr) return raised_->restore();
  try {
    raise(status_, what());
  } catch (nb::python_error& error) {
    error.restore();
  }
}

}  // namespace switchyard::python
