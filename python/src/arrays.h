#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <string_view>

#include "python/src/exchange.h"
#include "switchyard/c_api.h"

namespace switchyard::python {

enum class Access { read, write };

/// An array of any framework as the C API takes it, kept alive; null for None.
class Array {
 public:
  Array() = default;
  /// Throws switchyard.InvalidArgument, naming `what`, for what is no array.
  Array(nanobind::handle object, std::string_view what, Access access = Access::read);
  /// The same with elements of the type `dtype` ("bfloat16", ...), if that is not empty.
  Array(nanobind::handle object, std::string_view what, std::string_view dtype);

  const SwitchyardTensor* get() const noexcept { return present_ ? &tensor_ : nullptr; }
  /// What the array's framework offers; null for most.
  const Exchange* exchange() const noexcept { return exchange_; }

 private:
  bool import(nanobind::handle object, Access access);
  void retype(std::string_view dtype);

  nanobind::ndarray<> writable_;
  nanobind::ndarray<nanobind::ro> readable_;
  nanobind::object viewed_;  // of what exchange_ looked at
  SwitchyardTensor tensor_ = {};
  const Exchange* exchange_ = nullptr;
  bool present_ = false;
};

/// (array of numpy, name of its type if numpy has none) of a view; `owner` keeps it alive.
nanobind::object to_numpy(const SwitchyardTensor& view, nanobind::handle owner);

}  // namespace switchyard::python
