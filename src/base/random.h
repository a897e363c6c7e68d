#pragma once

#include <cstdint>

namespace switchyard {

/// Random numbers by position: number i of a stream does not depend on how the others are drawn,
/// and is the same on every platform (integer arithmetic and exact conversions only).
class Random {
 public:
  explicit Random(std::uint64_t seed, std::uint64_t stream = 0)
      : key_(mix(seed ^ mix(stream + 0x9e3779b97f4a7c15U))) {}

  std::uint64_t bits(std::uint64_t i) const { return mix(key_ + i * 0x9e3779b97f4a7c15U); }

  /// Below `limit`, which is far below 2^32.
  std::uint32_t below(std::uint64_t i, std::uint32_t limit) const {
    return static_cast<std::uint32_t>(((bits(i) >> 32) * limit) >> 32);
  }

  /// In [-1, 1), a multiple of 2^-23.
  float uniform(std::uint64_t i) const {
    return static_cast<float>(static_cast<std::int64_t>(bits(i) >> 40) - (1 << 23)) * 0x1p-23F;
  }

  /// Nearly normal, mean 0, standard deviation 1, at most 3.5: four uniforms of 16 bits.
  float normal(std::uint64_t i) const {
    const std::uint64_t b = bits(i);
    const auto sum = static_cast<std::int32_t>((b & 0xffff) + (b >> 16 & 0xffff) +
                                               (b >> 32 & 0xffff) + (b >> 48));
    return static_cast<float>(sum - 2 * 0xffff) * (1.7320508F * 0x1p-16F);
  }

 private:
  /// splitmix64's finaliser (Steele, Lea and Flood, 2014).
  static constexpr std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
  }

  std::uint64_t key_;
};

}  // namespace switchyard
