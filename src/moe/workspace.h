#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/math.h"

namespace switchyard::moe {

/// A byte range of the workspace.
struct Slice {
  std::int64_t offset = 0, bytes = 0;

  template <class T>
  T* in(std::span<std::byte> workspace) const noexcept {
    return reinterpret_cast<T*>(workspace.data() + offset);
  }
  friend bool operator==(const Slice&, const Slice&) = default;
};

/// Lays slices out one after the other, 64-byte aligned.
class Arena {
 public:
  template <class T>
  Slice take(std::int64_t count) {
    const Slice slice{.offset = top_, .bytes = count * static_cast<std::int64_t>(sizeof(T))};
    top_ = round_up<std::int64_t>(top_ + slice.bytes, 64);
    highest_ = std::max(highest_, top_);
    return slice;
  }
  std::int64_t top() const noexcept { return top_; }
  /// Frees everything after `top`: what was there is dead when the next slices are written.
  void rewind(std::int64_t top) noexcept { top_ = top; }
  std::int64_t bytes() const noexcept { return highest_; }

 private:
  std::int64_t top_ = 0, highest_ = 0;
};

/// One line of `explain`.
struct Step {
  std::string op, variant;
  std::int64_t bytes = 0, flops = 0;  ///< read and written, and useful work, at max_tokens
  Slice out;
  double expected_us = 0;  ///< GPU only
};

}  // namespace switchyard::moe
