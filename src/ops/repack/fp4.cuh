#pragma once

#include "device/fp4.cuh"
#include "ops/repack/shared.cuh"

// NVFP4 matrices as tiles of 128 rows x 64 columns: 4096 bytes of codes, then 512 of scales.
//
//   codes   [2 halves of 64 rows][128 threads][4 groups of 16 columns] words; thread 32 w + 4 g + t
//           of a half has rows 16 w + g and + 8 of it, columns 2 t, 2 t + 1, 2 t + 8, 2 t + 9 of a
//           group (device/fp4.cuh has the bits of a word)
//   scales  [4 w][8 g][2 halves][4 groups][rows g, g + 8]  bytes, re-encoded (device/fp4.cuh)
//
// One function a thread, for the host and the GPU. A block whose scale is zero has codes of zero.

namespace switchyard::repack {

inline constexpr int kFp4Codes = kTileRows * kTileColumns / 2;
inline constexpr int kFp4Scales = kTileRows * kTileColumns / 16;
inline constexpr int kFp4TileBytes = kFp4Codes + kFp4Scales;
inline constexpr int kFp4Threads = 128;
inline constexpr int kFp4Block = 16;

/// One expert's matrix as checkpoints have it. Columns are a multiple of 16.
struct Fp4Rows {
  uint8* codes;   // [out, in / 2]
  uint8* scales;  // [out, in / 16]  E4M3
};

/// The only parameter of the packing kernel.
struct Fp4Args {
  Fp4Rows rows;  // of E experts
  uint8* tiles;  // [E, tile_count(matrix), kFp4TileBytes]
  Matrix matrix;
};

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

/// Packs what a thread has of a tile.
SWITCHYARD_BOTH constexpr void pack_fp4(const Matrix& m, const Fp4Rows& from, int tile, int thread,
                                        uint8* to) {
  const int g = thread % 32 / 4, t = thread % 4;
  auto* words = reinterpret_cast<uint32*>(to);
  uint8* scales = to + kFp4Codes + (thread / 32 * 8 + g) * 16;
  for (int half = 0; half < 2; ++half) {
    const Fp4Place place = fp4_place(m, tile, thread, half);
    uint32* word = words + (half * kFp4Threads + thread) * 4;
    device::Fp4Pairs pairs = {};
    for (int group = 0; group < 4; ++group) {
      uint32* pair = group % 2 == 0 ? pairs.even : pairs.odd;
      const int column = place.columns + group * kFp4Block;
      for (int r = 0; r < 2; ++r) {
        const int64 row = place.rows[r];
        const bool inside = row >= 0 && column < m.in;
        const uint8 scale = inside ? from.scales[(row * m.in + column) / kFp4Block] : uint8{0};
        const uint8* codes = from.codes + (row * m.in + column) / 2;
        pair[r] = scale ? device::widen_fp4(codes[t]) : 0;
        pair[r + 2] = scale ? device::widen_fp4(codes[t + 4]) : 0;
        if (t == 0) scales[half * 8 + group * 2 + r] = device::encode_scale(scale);
      }
      if (group % 2 == 1) device::join_fp4(pairs, word[group - 1], word[group]);
    }
  }
}

/// And back.
SWITCHYARD_BOTH constexpr void unpack_fp4(const Matrix& m, const uint8* from, int tile, int thread,
                                          const Fp4Rows& to) {
  const int g = thread % 32 / 4, t = thread % 4;
  const auto* words = reinterpret_cast<const uint32*>(from);
  const uint8* scales = from + kFp4Codes + (thread / 32 * 8 + g) * 16;
  for (int half = 0; half < 2; ++half) {
    const Fp4Place place = fp4_place(m, tile, thread, half);
    const uint32* word = words + (half * kFp4Threads + thread) * 4;
    for (int group = 0; group < 4; ++group) {
      const device::Fp4Pairs pairs =
          device::spread_fp4(word[group / 2 * 2], word[group / 2 * 2 + 1]);
      const uint32* pair = group % 2 == 0 ? pairs.even : pairs.odd;
      const int column = place.columns + group * kFp4Block;
      for (int r = 0; r < 2; ++r) {
        const int64 row = place.rows[r];
        if (row < 0 || column >= m.in) continue;
        uint8* codes = to.codes + (row * m.in + column) / 2;
        codes[t] = static_cast<uint8>(device::narrow_fp4(pair[r]));
        codes[t + 4] = static_cast<uint8>(device::narrow_fp4(pair[r + 2]));
        if (t == 0)
          to.scales[(row * m.in + column) / kFp4Block] =
              device::decode_scale(scales[half * 8 + group * 2 + r]);
      }
    }
  }
}

}  // namespace switchyard::repack
