#include "checkpoint/int4.h"

#include <cstring>

namespace switchyard::checkpoint::int4 {
namespace {

/// Where AWQ keeps value k of a word: values 0 2 4 6 1 3 5 7 sit in nibbles 0..7.
constexpr int kAwqNibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};

void put(std::byte* row, std::int64_t col, unsigned value) {
  std::byte& pair = row[col / 2];
  pair = col % 2 == 0 ? (pair & std::byte{0xF0}) | std::byte(value)
                      : (pair & std::byte{0x0F}) | std::byte(value << 4);
}

}  // namespace

std::uint8_t nibble(std::uint32_t word, int k, Order order, int plus) noexcept {
  const int place = order == Order::awq ? kAwqNibble[k] : k;
  return static_cast<std::uint8_t>(((word >> (4 * place) & 15U) + static_cast<unsigned>(plus)) &
                                   15U);
}

void unpack_awq(const std::byte* words, std::int64_t words_per_row, std::int64_t col,
                std::int64_t count, std::byte* to, std::int64_t to_stride) {
  for (std::int64_t w = 0; w < words_per_row; ++w)
    for (std::int64_t c = 0; c < count; ++c) {
      std::uint32_t word = 0;
      std::memcpy(&word, words + (c * words_per_row + w) * 4, 4);
      for (int k = 0; k < 8; ++k)
        put(to + (8 * w + k) * to_stride, col + c, nibble(word, k, Order::awq, 0));
    }
}

void unpack_row_pairs(const std::byte* bytes, std::int64_t cols, std::int64_t row,
                      std::int64_t count, std::byte* to, std::int64_t to_stride) {
  for (std::int64_t r = 0; r < count; ++r)
    for (std::int64_t c = 0; c < cols; ++c) {
      const auto pair = static_cast<unsigned>(bytes[r * cols + c]) ^ 0x88U;
      put(to + (row + 2 * r) * to_stride, c, pair & 15U);
      put(to + (row + 2 * r + 1) * to_stride, c, pair >> 4);
    }
}

void flip_signs(const std::byte* from, std::int64_t count, std::byte* to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = from[i] ^ std::byte{0x88};
}

}  // namespace switchyard::checkpoint::int4
