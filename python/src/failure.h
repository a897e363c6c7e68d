#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <stdexcept>
#include <string>

namespace pybind11 {
/// pybind11's class of this name, member by member. C++ knows a thrown type by its name: PyTorch's
/// binding lets this one set Python's error, where any other std::exception is a RuntimeError.
class builtin_exception : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  virtual void set_error() const = 0;
};
}  // namespace pybind11

namespace switchyard::python {

/// An error on its way through PyTorch to Python: the exception of a status, or one that Python
/// raised.
class Failure : public pybind11::builtin_exception {
 public:
  Failure(int status, const std::string& text);
  explicit Failure(std::shared_ptr<nanobind::python_error> raised);  ///< needs the GIL

  void set_error() const override;

 private:
  int status_;
  std::shared_ptr<nanobind::python_error> raised_;
};

}  // namespace switchyard::python
