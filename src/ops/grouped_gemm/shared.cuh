// What host and device share of the grouped GEMMs: one kernel, as FC1 (gather, activation) or FC2
// (sum over experts).
#pragma once

#include "device/activation.cuh"
#include "device/half.cuh"
#include "device/lists.cuh"

namespace switchyard::grouped_gemm {

/// The kernel's only parameter. T tokens, H hidden, I intermediate, L lists, R rows (capacity, a
/// multiple of 8), G CTAs; weights as tiles (ops/repack).
///
/// `act` lies as the tensor cores read it: [act_tiles, R / 8] groups of 8 rows x 64 columns, the
/// 16-byte chunk c of a row at chunk c ^ (row % 8).
struct Args {
  const uint8* weights;  // [L, row_tiles, k_tiles] tiles
  const float* bias;     // [L, 2I], [L, I] without a gate, or [L, H]  if Config::bias
  device::Lists lists;
  const int* token_count;  // [1] or null: T on the device, at most token_limit
  const uint16* tokens;    // [T, H]  FC1's input
  uint16* act;             // FC1's output, FC2's input
  float* rows;             // [slots, R, span, 128]  FC2's output, a ring over spans of row tiles
  uint16* out;             // [T, H]  sum over a token's rows
  uint32* done;            // [spans]  tiles of a span that are written; 0 at launch
  uint32* summed;          // [spans]  CTAs that have summed a span up; 0 at launch
  int token_limit, hidden, intermediate, row_capacity;
  int row_tiles, k_tiles;
  int slots_a_token;  // K + shared
  device::ActivationConstants constants;
};

enum class Phase : int { fc1, fc2 };

/// What the plan chooses and the kernel is compiled for.
struct Config {
  Phase phase;
  int block;   // tokens of a tile at most: 8, 16 or a multiple of 32 up to 256
  int narrow;  // tiles with at most this many tokens have so few columns; `block`: none
  int stages;
  int span;   // FC2: row tiles that are summed up together
  int slots;  // FC2: spans in flight
  device::ActivationCode activation;
  bool bias;
  bool weight_on_input;  // the router weight multiplies the expert's input, not its output
  Half half;
  friend bool operator==(const Config&, const Config&) = default;

  static constexpr int kRows = 128;  // weight rows a tile
  static constexpr int kDepth = 64;  // columns of K a tile: 128 bytes
  static constexpr int kWeightBytes = kRows * kDepth * 2;
  static constexpr int kThreads = 384;  // producers, then two consumer warpgroups
  constexpr int act_rows() const { return device::is_gated(activation) ? kRows / 2 : kRows; }
  constexpr int stage_bytes() const { return kWeightBytes + block * kDepth * 2; }
  constexpr int smem_bytes() const { return 1024 + stages * stage_bytes(); }
};

}  // namespace switchyard::grouped_gemm
