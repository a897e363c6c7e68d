#pragma once

#include <cstdint>

#include "base/thread_pool.h"

namespace switchyard::moe {

/// body(i) for i in [0, count), on several threads if the whole is worth waking them: `work` is
/// about one element touched per unit and item.
template <class Body>
void for_each(ThreadPool& pool, std::int64_t count, std::int64_t work, Body&& body) {
  constexpr std::int64_t kWorthWaking = 1 << 15;
  if (count * work < kWorthWaking) {
    for (std::int64_t i = 0; i < count; ++i) body(i);
  } else {
    pool.parallel_for(count, [&](std::int64_t i, int) { body(i); });
  }
}

}  // namespace switchyard::moe
