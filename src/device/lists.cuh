#pragma once

#include "device/types.cuh"

// How kernels are told which rows belong to which expert. A row is a (token, expert) pair; rows of
// an expert are consecutive, in the order of tokens, and start at a multiple of kRowAlign.

namespace switchyard::device {

constexpr int kRowAlign = 8;

/// An expert's rows, cut into blocks of as many as a tile has columns. Each block has this entry of
/// its expert: one load says all. Blocks of an expert are consecutive; experts are in order.
struct alignas(16) Block {
  int expert;
  int row, rows;  // the expert's: [row, row + rows)
  int first;      // the expert's first block
};

/// R rows with the gaps that alignment leaves, K slots a token (routed, then shared experts).
struct Lists {
  int* block_count;   // [1]   B
  Block* blocks;      // [B]
  int* row_token;     // [R]
  float* row_weight;  // [R]   router weight
  int* slot_row;      // [T, K]  a row, or -1
};

constexpr int kMaxBlockRows = 1 << 14;
/// A block in one word: rows << 24 | expert << 14 | first row.
SWITCHYARD_BOTH constexpr uint32 pack_block(int expert, int row, int rows) {
  return static_cast<uint32>(rows) << 24 | static_cast<uint32>(expert) << 14 |
         static_cast<uint32>(row);
}
SWITCHYARD_BOTH constexpr int block_rows(uint32 word) {
  return static_cast<int>(word >> 24);
}
SWITCHYARD_BOTH constexpr int block_expert(uint32 word) {
  return static_cast<int>(word >> 14 & 1023);
}
SWITCHYARD_BOTH constexpr int block_row(uint32 word) {
  return static_cast<int>(word & (kMaxBlockRows - 1));
}

}  // namespace switchyard::device
