#pragma once

#include "device/ptx.cuh"
#include "device/share.cuh"
#include "device/wait.cuh"
#include "ops/fused_moe/shared.cuh"

// How the work is shared out, and what fills the ring.

namespace switchyard::fused_moe {

using device::block_expert;
using device::block_row;
using device::block_rows;
using device::Cursor;
using device::Divider;
using device::Ring;
using device::Segment;
using device::Share;

constexpr int kConsumers = 256;
enum Barrier : uint32 { kConsumerBar = 1, kLoaderBar, kRowsBar };  // 0 is __syncthreads

/// What the work is divided by. Made before the kernel waits for its inputs.
struct Divisors {
  Divider ctas{gridDim.x}, row_tiles1, k_steps1, k_steps2;

  __device__ explicit Divisors(const Args& args)
      : row_tiles1(args.row_tiles1), k_steps1(args.k_steps1), k_steps2(args.k_steps2) {}
};

/// The rows of a batch, wherever they were listed.
struct Batch {
  const uint32* block;      // [B]  pack_block()
  const int* row_token;     // [R]
  const float* row_weight;  // [R]
  int count;                // B
  int tokens;               // T
};

/// The shares of the phases.
__device__ inline Share share1(const Args& args, const Batch& batch, const Divisors& by) {
  return {batch.count * args.row_tiles1, by.k_steps1, by.ctas};
}
__device__ inline Share share2(const Args& args, const Batch& batch, const Divisors& by) {
  return {args.row_tiles2, Divider(batch.count * args.k_steps2), by.ctas};
}

/// Streams the weight tiles of both phases; one thread. Phase 2's tiles follow without a pause:
/// they wait for nobody.
template <Config kConfig>
__device__ void copy_weights(const Args& args, const Ring& ring, const Batch& batch,
                             const Divisors& by) {
  Cursor<kConfig.stages> cursor;
  const uint64 policy = ptx::policy_evict_first();
  /// Step k of a row tile that has `depth` k tiles.
  const auto copy = [&](const uint8* base, int64 row_tile, int k, int k_tiles) {
    const uint32 full = ring.full + 8 * cursor.stage;
    const uint32 bytes = min(kConfig.depth, k_tiles - k * kConfig.depth) * kConfig.weight_bytes();
    ring.wait(ring.empty + 8 * cursor.stage, cursor.phase ^ 1);
    ptx::mbarrier_arrive_expect(full, bytes);
    ptx::copy_bulk_streaming(
        ring.data + cursor.stage * kConfig.stage_bytes() + kConfig.depth * kConfig.token_bytes(),
        base + (row_tile * k_tiles + k * kConfig.depth) * kConfig.weight_bytes(), bytes, full,
        policy);
    cursor.advance();
  };
  Segment s;
  for (Share share = share1(args, batch, by); share.take(s);) {
    const auto b = static_cast<int>(by.row_tiles1.quotient(s.tile));
    const int64 tile =
        static_cast<int64>(block_expert(batch.block[b]) - b) * args.row_tiles1 + s.tile;
#pragma unroll 1
    for (int k = s.k_begin; k < s.k_end; ++k) copy(args.gate_up, tile, k, args.k_tiles1);
  }
  for (Share share = share2(args, batch, by); share.take(s);) {
    auto b = static_cast<int>(by.k_steps2.quotient(s.k_begin));
    int k = s.k_begin - b * args.k_steps2;
#pragma unroll 1
    for (int step = s.k_begin; step < s.k_end; ++step) {
      copy(args.down, static_cast<int64>(block_expert(batch.block[b])) * args.row_tiles2 + s.tile,
           k, args.k_tiles2);
      if (++k == args.k_steps2) k = 0, ++b;
    }
  }
}

/// Gathers the token tiles of both phases, 16 bytes a copy.
template <Config kConfig>
struct TokenLoader {
  static constexpr int kStep = kConfig.loaders() / 8;
  static constexpr int kRows = (kConfig.block + kStep - 1) / kStep;  // a thread: row_of(i)
  const Args& args;
  const Ring& ring;
  const Batch& batch;
  const Divisors& by;
  Cursor<kConfig.stages> cursor;
  int thread;

  __device__ int row_of(int i) const { return thread / 8 + kStep * i; }

  /// `steps` steps from k tile `k_tile`; columns beyond `width` are zeros. Rows that are null keep
  /// what is there: nothing reads their results.
  __device__ void load(const uint16* const (&row)[kRows], int k_tile, int width, int steps) {
    const int chunk = thread % 8;
    int column = k_tile * Config::kDepth + chunk * 8;
#pragma unroll 1
    for (; steps > 0; --steps) {
      const uint32 to = ring.data + cursor.stage * kConfig.stage_bytes();
      ring.wait(ring.empty + 8 * cursor.stage, cursor.phase ^ 1);
#pragma unroll
      for (int part = 0; part < kConfig.depth; ++part, column += Config::kDepth)
#pragma unroll
        for (int i = 0; i < kRows; ++i)
          if (row[i])
            ptx::copy_16(to + part * kConfig.token_bytes() + row_of(i) * 128 +
                             ((chunk ^ row_of(i) % 8) << 4),
                         row[i] + (column < width ? column : 0), column < width ? 16 : 0);
      ptx::mbarrier_arrive_copies(ring.full + 8 * cursor.stage);
      cursor.advance();
    }
  }

  __device__ void phase1() {
    Segment s;
    for (Share share = share1(args, batch, by); share.take(s);) {
      const uint32 block = batch.block[by.row_tiles1.quotient(s.tile)];
      const uint16* row[kRows];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const int r = row_of(i);
        row[i] = r < block_rows(block)
                     ? args.tokens +
                           static_cast<int64>(batch.row_token[block_row(block) + r]) * args.hidden
                     : nullptr;
      }
      load(row, s.k_begin * kConfig.depth, args.hidden, s.k_end - s.k_begin);
    }
  }

  __device__ void phase2() {
    const int width = args.row_tiles1 * kConfig.act_rows();
    Segment s;
    for (Share share = share2(args, batch, by); share.take(s);) {
      for (int step = s.k_begin; step < s.k_end;) {
        const auto b = static_cast<int>(by.k_steps2.quotient(step));
        const int k = step - b * args.k_steps2;
        const int steps = min(args.k_steps2 - k, s.k_end - step);
        const uint32 block = batch.block[b];
        const uint16* row[kRows];
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          const int r = row_of(i);
          row[i] = r < block_rows(block)
                       ? args.act + static_cast<int64>(block_row(block) + r) * width
                       : nullptr;
        }
        load(row, k * kConfig.depth, width, steps);
        step += steps;
      }
    }
  }
};

}  // namespace switchyard::fused_moe
