#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "checkpoint/safetensors.h"

namespace switchyard::fuzz {

/// A fuzzer's input with the zero bytes behind it that the JSON parser may read.
class Padded {
 public:
  Padded(const std::uint8_t* data, std::size_t size) : size_(size) {
    text_.assign(reinterpret_cast<const char*>(data), size);
    text_.append(checkpoint::kJsonPadding, '\0');
  }
  std::string_view text() const { return std::string_view(text_).substr(0, size_); }

 private:
  std::string text_;
  std::size_t size_;
};

}  // namespace switchyard::fuzz
