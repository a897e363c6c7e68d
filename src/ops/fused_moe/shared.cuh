// What host and device share of the small-batch layer: FC1 + activation + FC2 + sum over experts.
#pragma once

#include "device/activation.cuh"
#include "device/fp4.cuh"
#include "device/half.cuh"
#include "device/lists.cuh"
#include "device/router.cuh"

namespace switchyard::fused_moe {

/// The kernel's only parameter. T tokens, H hidden, I intermediate, L lists (experts, then shared
/// ones), R rows, G CTAs; matrices as tiles (ops/repack).
struct Args {
  const uint16* tokens;       // [T, H]
  const uint8* gate_up;       // [L, row_tiles1, k_tiles1] tiles
  const uint8* down;          // [L, row_tiles2, k_tiles2] tiles
  const float* factors1;      // [L, 2]  of packed weights: gate and up, or the same twice
  const float* factors2;      // [L, 2]  of packed weights, the first counts
  const float* gate_up_bias;  // [L, 2I]  if Config::bias; [L, I] without a gate
  const float* down_bias;     // [L, H]   if Config::bias
  device::Lists lists;        // unless Config::routes
  device::Router router;      // if Config::routes
  const int* token_count;     // [1] or null: T on the device, at most token_limit
  uint16* act;                // [R, act_width]  FC1's output
  uint16* out;                // [T, H]
  float* partial;             // [G, 128 * max(tokens, block)]
  uint64* marks;              // [2 G + 1]  what CTAs tell each other (device/grid.cuh)
  int token_limit, hidden, intermediate;
  int locals;  // lists before the shared ones
  int row_tiles1, k_tiles1, row_tiles2, k_tiles2;
  int k_steps1, k_steps2;  // of Config::depth k tiles
  device::ActivationConstants constants;
};

/// What the plan chooses and the kernel is compiled for.
struct Config {
  int tokens;  // T at most this
  int block;   // tokens of a block at most this: 8, 16, 32, 64
  int depth;   // k tiles of a step: one stage of the ring
  int stages;
  int ctas;  // an SM
  device::ActivationCode activation;
  bool bias;
  bool weight_on_input;  // the router weight multiplies the expert's input, not its output
  Half half;             // tokens, and weights unless they are packed
  Weights weights;
  bool routes;  // chooses and lists experts itself, from logits or given ids
  int shared;   // shared experts, if it routes
  device::Selection select;
  friend bool operator==(const Config&, const Config&) = default;

  static constexpr int kRows = 128;  // weight rows a tile
  static constexpr int kDepth = 64;  // columns of K a tile: 128 bytes
  constexpr int weight_bytes() const { return device::tile_bytes(weights); }
  /// Threads that copy tokens, after a warp that copies weights; then there are eight warps of
  /// consumers, which begin at a multiple of four if they use wgmma.
  constexpr int loaders() const { return weights == Weights::half ? 64 : 32; }
  constexpr int threads() const { return weights == Weights::half ? 384 : 320; }
  static constexpr int kMaxBlocks = 2048;
  static constexpr int kMaxRouted = 16;  // tokens that the kernel routes itself
  static constexpr int kMaxCtas = 4095;
  static constexpr int kMaxSteps = 1 << 24;     // of all tiles of a phase
  static constexpr int kSumStride = kRows + 8;  // floats between tokens: spreads them over banks
  /// FC1's outputs a row tile.
  constexpr int act_rows() const { return device::is_gated(activation) ? kRows / 2 : kRows; }
  /// Of a k tile.
  constexpr int token_bytes() const { return block * kDepth * 2; }
  /// Tokens, then weights, of `depth` k tiles.
  constexpr int stage_bytes() const {
    return (depth * (token_bytes() + weight_bytes()) + 1023) / 1024 * 1024;
  }
  constexpr int sum_bytes() const { return tokens * kSumStride * 4; }
  /// What lists by expert take while they are made, in the place of the sums.
  constexpr int list_bytes() const {
    return routes ? 4 * 1024 + 8 * tokens * (select.top_k + shared) : 0;
  }
  constexpr int smem_bytes() const {
    const int last = sum_bytes() > list_bytes() ? sum_bytes() : list_bytes();
    return 1024 + stages * stage_bytes() + last;
  }
};

}  // namespace switchyard::fused_moe
