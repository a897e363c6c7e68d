#pragma once

#include <string_view>

#include "base/check.h"
#include "switchyard/c_api.h"

namespace switchyard::c_api {

/// Stores the exception that is being handled as this thread's last error; returns its status.
int fail() noexcept;

/// Runs the body of one C function: no exception leaves it.
template <class Body>
int guarded(Body&& body) noexcept {
  try {
    body();
    return SWITCHYARD_OK;
  } catch (...) {
    return fail();
  }
}

template <class T>
T& given(T* pointer, std::string_view what) {
  require(pointer != nullptr, "[c_api] {}: expected a pointer, got NULL.", what);
  return *pointer;
}

/// A copy that switchyard_text_free() frees.
char* text_of(std::string_view text);

}  // namespace switchyard::c_api
