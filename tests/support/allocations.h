#pragma once

#include <cstdint>

namespace switchyard::testing {

/// Calls of operator new in this program so far, all threads together.
std::int64_t allocations() noexcept;

}  // namespace switchyard::testing
