// What host and device share of the dense GEMMs (DenseGEMM family): every token times every expert
// that is listed, NVFP4 weights and NVFP4 activations.
//
// Exactness: E2M1 times E4M3 has at most six significant bits, so that both operands are exact in
// bf16, and so is a product of two in f32; the tensor cores add them up in f32 as those of NVFP4
// do. An alpha of a token and expert is a power of two, by which the token's bf16 are multiplied,
// exactly, and the rest m, in [1, 2), for the f32 sum: before an expert's products are added, the
// sum is multiplied by the m of the expert before over its own.
#pragma once

#include "device/fp4.cuh"
#include "device/types.cuh"

namespace switchyard::dense_moe {

enum class Phase : int { fc1, fc2 };

/// What a kernel writes.
enum class Out : int { fp4, bf16, fp16, f32 };

/// The experts that count: their number, then their ids in rising order; null if all do.
using ExpertList = const int*;

/// NVFP4 activations, and where they go: bf16 tiles as the tensor cores read them, [blocks,
/// experts, k_tiles] tiles of block_rows rows x 64 columns, the 16-byte chunk c of a row at chunk
/// c ^ (row % 8); columns beyond an expert's width are zeros, rows beyond T too.
struct Activations {
  const uint8* codes;    // [T, E width / 2]
  const uint8* scales;   // [T, E width / 16]  swizzled 128x4
  const uint16* tokens;  // instead of both: [T, width]  bf16, quantised on the way
  float encode_scale;    // of `tokens`
  const float* alpha;    // FC2: [T, E], or [E, T]; else null
  ExpertList experts_listed;
  uint8* tiles;
  float* steps;  // FC2: [E, blocks * block_rows]  m of the expert before, over the own
  float* rests;  // FC2: [E, blocks * block_rows]  m times kFp4Factor
  int token_count, experts, width, k_tiles;
  int blocks, block_rows;           // of tokens; rows a block, a multiple of 8
  int token_stride, expert_stride;  // of alpha
};

/// The kernel's only parameter. T tokens, E experts, H hidden, I intermediate; N = H or 2 I rows
/// of weights and K = I or H columns.
struct Args {
  const uint8* weights;  // [E, row_tiles, k_tiles] tiles (ops/repack)
  Activations x;         // of E experts (FC2) or one (FC1)
  const float* alpha;    // FC1: [E, alpha_parts]  of gate and up, or of both
  const float* post;     // FC1: [T, E] or null
  ExpertList experts_listed;
  void* out;           // FC1: [T, E I], FC2: [T, H]
  uint8* out_scales;   // Out::fp4: [T, E I / 16]  swizzled 128x4
  float* partial;      // [slots, consumers, columns / 2]  sums that another CTA finishes
  uint64* marks;       // [slots]  (device/grid.cuh)
  uint64* barrier;     // [1]  the same
  float alpha_factor;  // FC1: of alpha
  int alpha_parts;
  float norm_const;              // Out::fp4
  int tokens, experts, outputs;  // of a row of an expert's output: I or H
  int row_tiles, k_tiles;        // of an expert
  int split;                     // parts of a sum; 0: as many as make all CTAs' shares equal
};

/// Alpha as a power of two, from 2^-100 to 2^100, and the rest, in [1, 2) within that range.
struct AlphaParts {
  float power, rest;
};
SWITCHYARD_BOTH constexpr AlphaParts split_alpha(float alpha) {
  const uint32 magnitude = bits_as<uint32>(alpha) & 0x7fffffffU;
  if (magnitude == 0) return {0, 1};
  if (magnitude >= 0x7f800000U) return {1, alpha};
  constexpr uint32 kLeast = 27, kMost = 227;  // exponents of 2^-100 and 2^100
  const uint32 exponent = magnitude >> 23;
  const uint32 own = exponent < kLeast ? kLeast : exponent > kMost ? kMost : exponent;
  return {bits_as<float>(own << 23), alpha * bits_as<float>((254 - own) << 23)};
}

/// The only parameter of `alpha` (alpha.cuh). T tokens, K slots, E experts.
struct AlphaArgs {
  const int* ids;          // [T, K]  left out: below 0, E and above
  const float* weights;    // [T, K]  left out: what is not finite
  const float* factors;    // [E, 2]  the first of each, times `factor`
  const int* token_count;  // [1] or null: T on the device, at most token_limit
  float* alpha;            // [token_limit, E]
  int* listed;             // [1 + E]
  float factor;
  int token_limit, top_k, experts;
  bool last_counts;
};

constexpr int kAlphaThreads = 256;
constexpr int kMaxAlphaExperts = 4096;

/// What the plan chooses and the kernel is compiled for.
struct Config {
  Phase phase;
  Out out;
  int columns;  // tokens of a block at most: 8, 16, 32, 64, 96 or 128
  int groups;   // of 64 weight rows, each a warpgroup's: 2 or 4
  int depth;    // k tiles of a stage
  int stages;
  int ctas;     // an SM
  int cluster;  // CTAs that share tokens, each with other rows of weights: 1 or 2
  bool wide;    // products of a warpgroup (wgmma), else of a warp (mma.sync)
  bool swap;    // weights are the tensor cores' A operand, tokens B; else the other way round
  bool post;    // FC1: a factor a token and expert behind the activation
  friend bool operator==(const Config&, const Config&) = default;

  static constexpr int kDepth = 64;  // columns of K a tile
  static constexpr int kTileBytes = device::tile_bytes(Weights::nvfp4);
  /// Tiles of 128 rows.
  constexpr int row_tiles() const { return groups / 2; }
  constexpr int consumers() const { return groups * 128; }
  /// One warp for weights, one for tokens; consumers by wgmma begin at a multiple of four.
  constexpr int copiers() const { return wide ? 128 : 64; }
  /// Of products by warpgroups, which take their accumulators' registers from the copiers.
  constexpr int consumer_registers() const { return groups == 2 ? 232 : columns > 64 ? 112 : 104; }
  constexpr int copier_registers() const { return groups == 2 ? 40 : columns > 64 ? 32 : 56; }
  constexpr int threads() const { return copiers() + consumers(); }
  constexpr int token_bytes() const { return depth * columns * kDepth * 2; }
  constexpr int weight_bytes() const { return row_tiles() * depth * kTileBytes; }
  constexpr int step_bytes() const { return phase == Phase::fc2 ? columns * 4 : 0; }
  /// Tokens, weights, what the sums are multiplied by.
  constexpr int stage_bytes() const {
    return (token_bytes() + weight_bytes() + step_bytes() + 1023) / 1024 * 1024;
  }
  /// FC1's outputs of a CTA's tile, f32 by token.
  constexpr int act_rows() const { return groups * 32; }
  constexpr int act_stride() const { return act_rows() + 4; }
  constexpr int act_bytes() const { return phase == Phase::fc1 ? columns * act_stride() * 4 : 0; }
  constexpr int smem_bytes() const { return 1024 + stages * stage_bytes() + act_bytes(); }
};

}  // namespace switchyard::dense_moe
