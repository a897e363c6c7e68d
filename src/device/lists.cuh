#pragma once

#include "device/types.cuh"

// How kernels are told which rows belong to which expert. A row is a (token, expert) pair; rows of
// an expert are consecutive, in the order of tokens, and start at a multiple of kRowAlign.

namespace switchyard::device {

constexpr int kRowAlign = 8;

/// Some rows of one expert, at most as many as a tile has columns. Blocks of an expert are
/// consecutive; experts are in order.
struct Block {
  int expert;
  int row, rows;     // [row, row + rows)
  int first, count;  // the expert's blocks: [first, first + count)
};

/// R rows with the gaps that alignment leaves, K slots a token (routed, then shared experts).
struct Lists {
  int* block_count;   // [1]   B
  Block* blocks;      // [B]
  int* row_token;     // [R]
  float* row_weight;  // [R]   router weight
  int* slot_row;      // [T, K]  a row, or -1
};

}  // namespace switchyard::device
