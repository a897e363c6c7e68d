#pragma once

#include <cstddef>
#include <cstdint>

/// The nibble orders of published INT4 checkpoints, unpacked into ours: u4 with the even column
/// in the low nibble; zero points one byte each.
namespace switchyard::checkpoint::int4 {

/// AWQ: `words` [count, words_per_row] hold 8 rows of the matrix each, `count` columns of it from
/// `col` on (even). Writes rows 0 .. 8 * words_per_row - 1 of `to`.
void unpack_awq(const std::byte* words, std::int64_t words_per_row, std::int64_t col,
                std::int64_t count, std::byte* to, std::int64_t to_stride);

/// ModelOpt: `bytes` [count, cols] hold two rows each, in two's complement; `row` is the first.
void unpack_row_pairs(const std::byte* bytes, std::int64_t cols, std::int64_t row,
                      std::int64_t count, std::byte* to, std::int64_t to_stride);

/// Two's complement pairs -> offset binary.
void flip_signs(const std::byte* from, std::int64_t count, std::byte* to);

enum class Order { ascending, awq };

/// Nibble k of a word, as a number; `plus` is added modulo 16 (GPTQ stores zero points less one).
std::uint8_t nibble(std::uint32_t word, int k, Order order, int plus) noexcept;

}  // namespace switchyard::checkpoint::int4
