// What host and device share of the small-batch layer: FC1 + activation + FC2 + sum over experts.
#pragma once

#include "device/activation.cuh"
#include "device/half.cuh"
#include "device/lists.cuh"

namespace switchyard::fused_moe {

/// The kernel's only parameter. T tokens, H hidden, I intermediate, L lists (experts, then shared
/// ones), R rows, G CTAs; matrices as tiles (ops/repack).
struct Args {
  const uint16* tokens;       // [T, H]
  const uint8* gate_up;       // [L, row_tiles1, k_tiles1] tiles
  const uint8* down;          // [L, row_tiles2, k_tiles2] tiles
  const float* gate_up_bias;  // [L, 2I]  if Config::bias; [L, I] without a gate
  const float* down_bias;     // [L, H]   if Config::bias
  device::Lists lists;
  const int* token_count;  // [1] or null: T on the device, at most token_limit
  uint16* act;             // [R, act_width]  FC1's output
  uint16* out;             // [T, H]
  float* partial;          // [G, 128 * max(tokens, block)]
  uint32* flag;            // [G]      0 at launch
  uint32* arrived;         // [1]      0 at launch
  int token_limit, hidden, intermediate;
  int row_tiles1, k_tiles1, row_tiles2, k_tiles2;
  device::ActivationConstants constants;
};

/// What the plan chooses and the kernel is compiled for.
struct Config {
  int tokens;  // T at most this
  int block;   // tokens of a block at most this: 8, 16, 32, 64
  int stages;
  device::ActivationCode activation;
  bool bias;
  bool weight_on_input;  // the router weight multiplies the expert's input, not its output
  Half half;
  friend bool operator==(const Config&, const Config&) = default;

  static constexpr int kRows = 128;  // weight rows a tile
  static constexpr int kDepth = 64;  // columns of K a tile: 128 bytes
  static constexpr int kWeightBytes = kRows * kDepth * 2;
  static constexpr int kThreads = 384;  // copy warps, then two consumer warpgroups
  static constexpr int kMaxBlocks = 2048;
  static constexpr int kSumStride = kRows + 8;  // floats between tokens: spreads them over banks
  /// FC1's outputs a row tile.
  constexpr int act_rows() const { return device::is_gated(activation) ? kRows / 2 : kRows; }
  constexpr int token_bytes() const { return block * kDepth * 2; }
  constexpr int stage_bytes() const { return kWeightBytes + token_bytes(); }
  constexpr int sum_bytes() const { return tokens * kSumStride * 4; }
  constexpr int smem_bytes() const { return 1024 + stages * stage_bytes() + sum_bytes(); }
};

/// A block in one word: rows << 24 | expert << 14 | first row / 8.
constexpr uint32 pack_block(int expert, int row, int rows) {
  return static_cast<uint32>(rows) << 24 | static_cast<uint32>(expert) << 14 |
         static_cast<uint32>(row / device::kRowAlign);
}
constexpr int block_rows(uint32 word) {
  return static_cast<int>(word >> 24);
}
constexpr int block_expert(uint32 word) {
  return static_cast<int>(word >> 14 & 1023);
}
constexpr int block_row(uint32 word) {
  return static_cast<int>(word & 0x3FFF) * device::kRowAlign;
}

}  // namespace switchyard::fused_moe
