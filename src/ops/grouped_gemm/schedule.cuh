#pragma once

#include "ops/grouped_gemm/shared.cuh"

// Which tiles a CTA works on. Waits only ever are for tiles that come earlier in every CTA's order,
// so they end.

namespace switchyard::grouped_gemm {

/// One tile of the output: rows [row, row + rows) of an expert, maybe none; `sharers` tiles of the
/// expert have the same weights.
struct Tile {
  int expert, row, rows, sharers;
  int wide;   // weight rows wide_rows * wide and on
  int span;   // the one that `wide` is in
  int parts;  // kRows of them each: as many as the matrix has, at most Config::groups
};

/// The order of tiles: all experts' of a span, then the next span's; in a span expert by expert,
/// and tiles with the same weights side by side. Clusters take them in turn.
template <Config kConfig>
struct Order {
  const Args& args;
  const int blocks;

  __device__ explicit Order(const Args& a) : args(a), blocks(*a.lists.block_count) {}

  __device__ int wides() const { return (args.row_tiles + kConfig.groups - 1) / kConfig.groups; }
  __device__ int workers() const { return static_cast<int>(gridDim.x) / kConfig.cluster; }
  __device__ int worker() const { return static_cast<int>(blockIdx.x) / kConfig.cluster; }
  /// Without sums all wides are one span.
  __device__ int spans() const {
    if constexpr (!kConfig.sums()) return 1;
    return (wides() + args.width - 1) / args.width;
  }
  __device__ int width(int span) const {
    if constexpr (!kConfig.sums()) return wides();
    return min(args.width, wides() - span * args.width);
  }
  /// This CTA's tiles of all spans before `span`.
  __device__ int tiles_before(int span) const {
    const int all = blocks * min(span * args.width, wides());
    return max(all - worker() + workers() - 1, 0) / workers();
  }
};

/// This CTA's tiles. The entry of the next one is loaded while the last is worked on.
template <Config kConfig>
struct Schedule : Order<kConfig> {
  using Order<kConfig>::args, Order<kConfig>::blocks, Order<kConfig>::width;
  const int spans;
  int span = 0, at;  // the next tile: its span, and its number there
  device::Block entry;

  __device__ explicit Schedule(const Args& a)
      : Order<kConfig>(a),
        spans(blocks ? Order<kConfig>::spans() : 0),
        at(Order<kConfig>::worker()) {
    load();
  }

  /// A part of `rows` rows, whole groups of 8.
  __device__ static int share_of(int rows, int parts) {
    return (rows + 8 * parts - 1) / (8 * parts) * 8;
  }

  __device__ void load() {
    while (span < spans && at >= blocks * width(span)) at -= blocks * width(span), ++span;
    if (span < spans) entry = args.lists.blocks[at / width(span)];
  }

  __device__ bool take(Tile& tile) {
    if (span >= spans) return false;
    int wide = at - entry.first * width(span), skipped = 0;
    const int groups = (entry.rows + kConfig.group() - 1) / kConfig.group();
    int rows = entry.rows;
    if (groups > 1) {  // all have about as many rows
      rows = share_of(entry.rows, groups);
      skipped = wide % groups * rows, wide /= groups;
      rows = max(min(entry.rows - skipped, rows), 0);
    }
    if constexpr (kConfig.sums()) wide += span * args.width;
    if constexpr (kConfig.cluster == 2) {
      const int half = share_of(rows, 2), rank = static_cast<int>(blockIdx.x) % 2;
      skipped += rank * half;
      rows = rank == 0 ? min(half, rows) : max(rows - half, 0);
    }
    tile = {.expert = entry.expert,
            .row = entry.row + skipped,
            .rows = rows,
            .sharers = groups,
            .wide = wide,
            .span = span,
            .parts = min(args.row_tiles - kConfig.groups * wide, kConfig.groups)};
    at += this->workers();
    load();
    return true;
  }
};

}  // namespace switchyard::grouped_gemm
