// What host and device share of the small-batch layer: FC1 + activation + FC2 + sum over experts.
#pragma once

#include "device/types.cuh"

namespace switchyard::fused_moe {

/// Those of a gate and an up value; swiglu_clamp is swiglu_oai with alpha 1 and beta 0.
enum class Activation : int { swiglu, swiglu_oai, geglu_tanh, situ };

/// The kernel's only parameter. T tokens, H hidden, I intermediate, B blocks of one expert's
/// tokens, R routed rows (pairs of token and expert), G CTAs.
struct Args {
  const uint16* tokens;       // [T, H]  bf16
  const uint8* gate_up;       // [E, row_tiles1, k_tiles1] tiles
  const uint8* down;          // [E, row_tiles2, k_tiles2] tiles
  const float* gate_up_bias;  // [E, 2I]  if Config::bias
  const float* down_bias;     // [E, H]   if Config::bias
  const int* block_count;     // [1]      B
  const int* block_expert;    // [B]      ascending
  const int* block_row;       // [B + 1]  first row of each block
  const int* row_token;       // [R]
  const float* row_weight;    // [R]
  uint16* act;                // [R, row_tiles1 * 64]  bf16, FC1's output times the router weight
  uint16* out;                // [T, H]   bf16
  float* partial;             // [G, 128 * max(tokens, block)]
  uint32* flag;               // [G]      0 at launch
  uint32* arrived;            // [1]      0 at launch
  int tokens_count, hidden, intermediate;
  int row_tiles1, k_tiles1, row_tiles2, k_tiles2;
  float alpha, beta, limit, linear_beta;
};

/// What the plan chooses and the kernel is compiled for.
struct Config {
  int tokens;  // T at most this
  int block;   // tokens of a block at most this: 8, 16, 32, 64
  int stages;
  Activation activation;
  bool bias;
  friend bool operator==(const Config&, const Config&) = default;

  static constexpr int kRows = 128;  // weight rows a tile
  static constexpr int kDepth = 64;  // columns of K a tile: 128 bytes of bf16
  static constexpr int kWeightBytes = kRows * kDepth * 2;
  static constexpr int kThreads = 384;  // copy warps, then two consumer warpgroups
  static constexpr int kMaxBlocks = 1152;
  static constexpr int kSumStride = kRows + 8;  // floats between tokens: spreads them over banks
  constexpr int token_bytes() const { return block * kDepth * 2; }
  constexpr int stage_bytes() const { return kWeightBytes + token_bytes(); }
  constexpr int sum_bytes() const { return tokens * kSumStride * 4; }
  constexpr int smem_bytes() const { return 1024 + stages * stage_bytes() + sum_bytes(); }
};

}  // namespace switchyard::fused_moe
