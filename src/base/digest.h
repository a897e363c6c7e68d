#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace switchyard {

/// 128 bits that tell contents apart (XXH3): against accidents, not against forgers.
struct Digest {
  std::uint64_t high = 0, low = 0;
  friend bool operator==(const Digest&, const Digest&) = default;
};

/// Of a sequence of texts: {"ab", "c"} and {"a", "bc"} differ.
Digest digest(std::span<const std::string_view> parts);

/// 32 hexadecimal digits.
std::string to_string(const Digest& digest);

}  // namespace switchyard
