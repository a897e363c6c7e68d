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
// One function a thread, for the host and the GPU. A block whose NVFP4 scale is zero has codes of
// zero.

namespace switchyard::repack {

inline constexpr int kFp4Threads = 128;
inline constexpr int kFp4Group = 16;

SWITCHYARD_BOTH constexpr int fp4_block(Weights weights) {
  return weights == Weights::nvfp4 ? 16 : 32;
}

/// One expert's matrix as checkpoints have it. Columns are whole blocks.
struct Fp4Rows {
  uint8* codes;   // [out, in / 2]
  uint8* scales;  // [out, in / block]  E4M3 or E8M0
};

/// The only parameter of the packing kernel.
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

/// What thread `thread` has of one half of a tile: 16 bytes of codes a row are 32 of its columns.
struct Fp4Place {
  int rows[2];  // of the matrix; -1 beyond it
  int columns;  // of the matrix: the first of the tile's
};
SWITCHYARD_BOTH constexpr Fp4Place fp4_place(const Matrix& m, int tile, int thread, int half) {
  const auto row = static_cast<uint32>(half * 64 + thread / 32 * 16 + thread % 32 / 4);
  const int row_tile = tile / column_tiles(m);
  return {{source_row(m, row_tile, row), source_row(m, row_tile, row + 8)},
          tile % column_tiles(m) * kTileColumns};
}

/// Where the scales of a thread's half lie in a tile; of MXFP4 two groups share one.
SWITCHYARD_BOTH constexpr int fp4_scale_at(Weights weights, int thread, int half, int group,
                                           int r) {
  return device::kFp4CodeBytes +
         device::fp4_scales_at(weights, thread / 32, thread % 32 / 4, half) +
         (weights == Weights::nvfp4 ? group : group / 2) * 2 + r;
}

/// Packs what a thread has of a tile.
template <Weights kWeights>
SWITCHYARD_BOTH constexpr void pack_fp4(const Matrix& m, const Fp4Rows& from, int shift, int tile,
                                        int thread, uint8* to) {
  constexpr int kBlock = fp4_block(kWeights);
  const int t = thread % 4;
  auto* words = reinterpret_cast<uint32*>(to);
  for (int half = 0; half < 2; ++half) {
    const Fp4Place place = fp4_place(m, tile, thread, half);
    uint32* word = words + (half * kFp4Threads + thread) * 4;
    device::Fp4Pairs pairs = {};
    for (int group = 0; group < 4; ++group) {
      uint32* pair = group % 2 == 0 ? pairs.even : pairs.odd;
      const int column = place.columns + group * kFp4Group;
      for (int r = 0; r < 2; ++r) {
        const int64 row = place.rows[r];
        const bool inside = row >= 0 && column < m.in;
        const uint8 scale = inside ? from.scales[(row * m.in + column) / kBlock] : uint8{0};
        const bool kept = inside && (kWeights != Weights::nvfp4 || scale != 0);
        const uint8* codes = from.codes + (row * m.in + column) / 2;
        pair[r] = kept ? device::widen_fp4(codes[t]) : 0;
        pair[r + 2] = kept ? device::widen_fp4(codes[t + 4]) : 0;
        if (t == 0 && column % kBlock == 0)
          to[fp4_scale_at(kWeights, thread, half, group, r)] =
              inside ? encode_scale(kWeights, scale, shift) : uint8{0};
      }
      if (group % 2 == 1) device::join_fp4(pairs, word[group - 1], word[group]);
    }
  }
}

/// And back.
template <Weights kWeights>
SWITCHYARD_BOTH constexpr void unpack_fp4(const Matrix& m, const uint8* from, int shift, int tile,
                                          int thread, const Fp4Rows& to) {
  constexpr int kBlock = fp4_block(kWeights);
  const int t = thread % 4;
  const auto* words = reinterpret_cast<const uint32*>(from);
  for (int half = 0; half < 2; ++half) {
    const Fp4Place place = fp4_place(m, tile, thread, half);
    const uint32* word = words + (half * kFp4Threads + thread) * 4;
    for (int group = 0; group < 4; ++group) {
      const device::Fp4Pairs pairs =
          device::spread_fp4(word[group / 2 * 2], word[group / 2 * 2 + 1]);
      const uint32* pair = group % 2 == 0 ? pairs.even : pairs.odd;
      const int column = place.columns + group * kFp4Group;
      for (int r = 0; r < 2; ++r) {
        const int64 row = place.rows[r];
        if (row < 0 || column >= m.in) continue;
        uint8* codes = to.codes + (row * m.in + column) / 2;
        codes[t] = static_cast<uint8>(device::narrow_fp4(pair[r]));
        codes[t + 4] = static_cast<uint8>(device::narrow_fp4(pair[r + 2]));
        if (t == 0 && column % kBlock == 0)
          to.scales[(row * m.in + column) / kBlock] =
              decode_scale(kWeights, from[fp4_scale_at(kWeights, thread, half, group, r)], shift);
      }
    }
  }
}

}  // namespace switchyard::repack
