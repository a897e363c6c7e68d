// What host and device share of the grouped GEMMs: one kernel, as FC1 (gather, activation) or FC2
// (sum over experts).
#pragma once

#include "device/activation.cuh"
#include "device/fp4.cuh"
#include "device/half.cuh"
#include "device/lists.cuh"

namespace switchyard::grouped_gemm {

/// Of an expert's matrix: the largest sum of a row's absolute values, and the largest bias.
struct RowNorm {
  float weights, bias;
};

/// The kernel's only parameter. T tokens, H hidden, I intermediate, L lists, R rows (capacity, a
/// multiple of 8), G CTAs; weights as tiles (ops/repack).
///
/// `act` lies as the tensor cores read it: [act_tiles, R / 8] groups of 8 rows x 64 columns, the
/// 16-byte chunk c of a row at chunk c ^ (row % 8).
struct Args {
  const uint8* weights;  // [L, row_tiles, k_tiles] tiles
  const float* bias;     // [L, 2I], [L, I] without a gate, or [L, H]  if Config::bias
  const float* factors;  // [L, 2]  of packed weights: gate and up, or the same twice
  const RowNorm* norms;  // [L]  of the down projection
  device::Lists lists;
  const int* token_count;  // [1] or null: T on the device, at most token_limit
  const uint16* tokens;    // [T, H]  FC1's input
  uint16* act;             // FC1's output, FC2's input
  uint32* row_bound;       // [R]  f32: no output of the row's FC2 is larger; 0 at launch
  float* row_scale;        // [R]  router weight in units of the token's sums
  float* unit;             // [T]  what 1 of a sum stands for
  uint32* sums;            // [slots, width, T, wide_rows]  of the spans in flight; FC1 clears them
  uint16* out;             // [T, H]  sum over a token's rows; [R, H] scaled rows with Sum::none
  uint32* scaled;          // [1]  storers that have filled row_scale and unit; 0 at launch
  uint32* done;            // [spans]  tiles of a span that are added; 0 at launch
  uint32* emptied;         // [spans]  CTAs that have stored a span; 0 at launch
  int64 sum_words;
  int token_limit, hidden, intermediate, row_capacity;
  int row_tiles, k_tiles;
  int width;  // wides (wide_rows weight rows) of a span; FC1: all
  int slots;
  int slots_a_token;  // K + shared
  device::ActivationConstants constants;
};

enum class Phase : int { fc1, fc2 };

/// How FC2 adds a token's rows up.
enum class Sum : int {
  exact,  ///< integers: any order of additions gives the same bits
  none,   ///< it stores them (device/row_scale.cuh), ops/finalize adds them up
};

/// What the plan chooses and the kernel is compiled for.
struct Config {
  Phase phase;
  int block;    // tokens of a tile at most: 16, 32, 64, 96, 128, 144, 160 or 176
  int narrow;   // tiles with at most this many tokens have so few columns; `block`: all have more
  int cluster;  // CTAs that share weights, each with a block of the expert's tokens: 1 or 2
  int groups;   // consumer warpgroups, each with kRows rows of a tile: 2 or, of packed weights, 4
  int stages;
  Sum sum;
  device::ActivationCode activation;
  bool bias;
  bool weight_on_input;  // the router weight multiplies the expert's input, not its output
  Half half;             // tokens, and weights unless they are packed
  Weights weights;
  friend bool operator==(const Config&, const Config&) = default;

  static constexpr int kRows = 128;  // weight rows a tile of ops/repack: those of a warpgroup
  static constexpr int kDepth = 64;  // columns of K a tile: 128 bytes
  constexpr int weight_bytes() const { return device::tile_bytes(weights); }
  /// Weight rows of a tile.
  constexpr int wide_rows() const { return groups * kRows; }
  constexpr int consumers() const { return groups * 128; }
  /// FC2 has sums, and storers that watch over them.
  constexpr bool sums() const { return phase == Phase::fc2 && sum != Sum::none; }
  /// Copy warps, consumers and storers.
  constexpr int threads() const { return 128 + consumers() + (sums() ? 128 : 0); }
  /// Registers of their threads. A launch gets as many for each; what some give away others take.
  struct Registers {
    int producer, consumer, storer;
  };
  constexpr Registers registers() const {
    if (groups == 4) return {56, 104, 0};
    if (sums()) return {48, 192, 80};
    return phase == Phase::fc1 && block > 144 ? Registers{40, 232, 0} : Registers{56, 224, 0};
  }
  constexpr bool registers_fit() const {
    const Registers r = registers();
    const int launched = 65536 / threads() / 8 * 8;
    return 128 * r.producer + consumers() * r.consumer + (sums() ? 128 * r.storer : 0) <=
           threads() * launched;
  }
  /// Tokens of an entry of the list of blocks.
  constexpr int group() const { return block * cluster; }
  constexpr int act_rows() const { return device::is_gated(activation) ? kRows / 2 : kRows; }
  constexpr int token_bytes() const { return block * kDepth * 2; }
  /// Tokens, then the groups' weights.
  constexpr int stage_bytes() const {
    return (token_bytes() + groups * weight_bytes() + 1023) / 1024 * 1024;
  }
  /// FC2: token and scale, or bound, of a tile's rows, for two tiles.
  constexpr int row_bytes() const {
    return phase == Phase::fc1 ? 0 : sums() ? block * 8 : block * 4;
  }
  /// Outputs on their way to memory: of kLot tokens a warpgroup's, twice.
  static constexpr int kLot = 16;
  constexpr int lot_bytes() const { return kLot * act_rows() * 2; }
  constexpr int outgoing_bytes() const { return sums() ? 0 : groups * 2 * lot_bytes(); }
  constexpr int smem_bytes() const {
    return 1024 + stages * stage_bytes() + outgoing_bytes() + 2 * row_bytes();
  }
};

}  // namespace switchyard::grouped_gemm
