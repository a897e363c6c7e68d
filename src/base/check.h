#pragma once

#include <fmt/format.h>

#include <utility>

#include "switchyard/error.h"

namespace switchyard {

/// Throws InvalidArgument unless `ok`. The message says what is wrong, the value, and the way out.
template <class... Args>
void require(bool ok, fmt::format_string<Args...> text, Args&&... args) {
  if (!ok) throw InvalidArgument(fmt::format(text, std::forward<Args>(args)...));
}

namespace detail {
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);
}

/// For our own mistakes: throws std::logic_error with the place.
#define SWITCHYARD_ASSERT(condition) \
  ((condition) ? void() : ::switchyard::detail::assertion_failed(#condition, __FILE__, __LINE__))

}  // namespace switchyard
