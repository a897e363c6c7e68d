#pragma once

#include "device/fp4.cuh"
#include "ops/repack/shared.cuh"

// NVFP4 and MXFP4 matrices as tiles of 128 rows x 64 columns: 4096 bytes of codes, then 512 or 256
// of scales.
//
//   codes   [2 halves of 64 rows][128 threads][4 groups of 16 columns] words; thread 32 w + 4 g + t
//           of a half has rows 16 w + g and + 8 of it, columns 2 t, 2 t + 1, 2 t + 8, 2 t + 9 of a
//           group (device/fp4.cuh has the bits of a word)
//   scales  [4 w][8 g][2 halves][4 groups, MXFP4: 2 pairs of groups][rows g, g + 8]  bytes,
//           re-encoded (device/fp4.cuh)
//
// One function a thread, for the host and the GPU. Every byte comes back.

namespace switchyard::repack {

inline constexpr int kFp4Threads = 128;
inline constexpr int kFp4Group = 16;

SWITCHYARD_BOTH constexpr int fp4_block(Weights weights) {
  return weights == Weights::nvfp4 ? 16 : 32;
}

/// One expert's matrix as checkpoints have it. Columns are whole blocks.
struct Fp4Rows {
  uint8* codes;   // [out, in / 2]  8-byte aligned
  uint8* scales;  // [out, in / block]  E4M3 or E8M0
};

/// The only parameter of the packing kernels.
struct Fp4Args {
  Fp4Rows rows;  // of E experts
  uint8* tiles;  // [E, tile_count(matrix), tile_bytes]
  Matrix matrix;
  int shift;  // of MXFP4 scales
};

/// A scale as tiles have it, and back; `shift` is MXFP4's.
SWITCHYARD_BOTH constexpr uint8 encode_scale(Weights weights, uint8 scale, int shift) {
  if (weights == Weights::nvfp4) return device::encode_scale(scale);
  return static_cast<uint8>(scale + device::kMxfp4Bias - shift);
}
SWITCHYARD_BOTH constexpr uint8 decode_scale(Weights weights, uint8 code, int shift) {
  if (weights == Weights::nvfp4) return device::decode_scale(code);
  return static_cast<uint8>(code - device::kMxfp4Bias + shift);
}

/// Where the scales of a thread's half lie in a tile; of MXFP4 two groups share one.
SWITCHYARD_BOTH constexpr int fp4_scale_at(Weights weights, int thread, int half, int group,
                                           int r) {
  return device::kFp4CodeBytes +
         device::fp4_scales_at(weights, thread / 32, thread % 32 / 4, half) +
         (weights == Weights::nvfp4 ? group : group / 2) * 2 + r;
}

/// What thread `thread` moves: 32 columns of rows g and g + 8 of 16, those of threads 4 g + t of
/// the tensor cores' operand.
struct Fp4Part {
  int64 rows[2];  // of the matrix; -1 beyond it
  int column;     // of the matrix, the first of the 32
  int half;
  int owner;  // 32 w + 4 g
  int pair;   // of groups
};
SWITCHYARD_BOTH constexpr Fp4Part fp4_part(const Matrix& m, int tile, int thread) {
  const int half = thread / 64, eight = thread / 2 % 32, pair = thread % 2;
  const auto row = static_cast<uint32>(half * 64 + eight / 8 * 16 + eight % 8);
  const int row_tile = tile / column_tiles(m);
  return {.rows = {source_row(m, row_tile, row), source_row(m, row_tile, row + 8)},
          .column = tile % column_tiles(m) * kTileColumns + pair * 2 * kFp4Group,
          .half = half,
          .owner = eight * 4,
          .pair = pair};
}

/// Calls f(group of the pair, row, first element in the matrix or -1 beyond it, whether its block's
/// scale is this group's) for every row's group of 16.
template <Weights kWeights, class F>
SWITCHYARD_BOTH constexpr void for_each_group(const Matrix& m, const Fp4Part& part, const F& f) {
  for (int group = 0; group < 2; ++group) {
    const int column = part.column + group * kFp4Group;
    for (int r = 0; r < 2; ++r)
      f(group, r, part.rows[r] >= 0 && column < m.in ? part.rows[r] * m.in + column : -1,
        column % fp4_block(kWeights) == 0);
  }
}

/// Where thread owner + t finds the two words of a part.
SWITCHYARD_BOTH constexpr int fp4_words_at(const Fp4Part& part, int t) {
  return ((part.half * kFp4Threads + part.owner + t) * 2 + part.pair) * 2;
}

/// Packs what a thread moves of a tile.
template <Weights kWeights>
SWITCHYARD_BOTH constexpr void pack_fp4(const Matrix& m, const Fp4Rows& from, int shift, int tile,
                                        int thread, uint8* to) {
  const Fp4Part part = fp4_part(m, tile, thread);
  uint64 codes[2][2] = {};  // group, row
  for_each_group<kWeights>(m, part, [&](int group, int r, int64 at, bool scaled) {
    if (at >= 0) codes[group][r] = *reinterpret_cast<const uint64*>(from.codes + at / 2);
    if (scaled)
      to[fp4_scale_at(kWeights, part.owner, part.half, part.pair * 2 + group, r)] =
          at >= 0 ? encode_scale(kWeights, from.scales[at / fp4_block(kWeights)], shift) : uint8{0};
  });
  for (int t = 0; t < 4; ++t) {
    device::Fp4Pairs pairs = {};
    for (int p = 0; p < 4; ++p) {
      const int bit = 8 * (t + p / 2 * 4);
      pairs.even[p] = device::widen_fp4(static_cast<uint32>(codes[0][p % 2] >> bit));
      pairs.odd[p] = device::widen_fp4(static_cast<uint32>(codes[1][p % 2] >> bit));
    }
    uint32* words = reinterpret_cast<uint32*>(to) + fp4_words_at(part, t);
    device::join_fp4(pairs, words[0], words[1]);
  }
}

/// And back.
template <Weights kWeights>
SWITCHYARD_BOTH constexpr void unpack_fp4(const Matrix& m, const uint8* from, int shift, int tile,
                                          int thread, const Fp4Rows& to) {
  const Fp4Part part = fp4_part(m, tile, thread);
  uint64 codes[2][2] = {};  // group, row
  for (int t = 0; t < 4; ++t) {
    const uint32* words = reinterpret_cast<const uint32*>(from) + fp4_words_at(part, t);
    const device::Fp4Pairs pairs = device::spread_fp4(words[0], words[1]);
    for (int p = 0; p < 4; ++p) {
      const int bit = 8 * (t + p / 2 * 4);
      codes[0][p % 2] |= static_cast<uint64>(device::narrow_fp4(pairs.even[p])) << bit;
      codes[1][p % 2] |= static_cast<uint64>(device::narrow_fp4(pairs.odd[p])) << bit;
    }
  }
  for_each_group<kWeights>(m, part, [&](int group, int r, int64 at, bool scaled) {
    if (at < 0) return;
    *reinterpret_cast<uint64*>(to.codes + at / 2) = codes[group][r];
    if (scaled)
      to.scales[at / fp4_block(kWeights)] = decode_scale(
          kWeights, from[fp4_scale_at(kWeights, part.owner, part.half, part.pair * 2 + group, r)],
          shift);
  });
}

}  // namespace switchyard::repack
