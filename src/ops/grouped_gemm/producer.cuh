#pragma once

#include "device/wait.cuh"
#include "ops/grouped_gemm/schedule.cuh"
#include "ops/grouped_gemm/sums.cuh"

// What fills the ring: weights by bulk copies, and the tokens of FC1 or the activations of FC2.

namespace switchyard::grouped_gemm {

constexpr int kProducers = 128;

using device::Cursor;
using device::Ring;

template <Config kConfig>
struct Producer {
  const Args& args;
  const Ring& ring;
  int thread;
  Cursor<kConfig.stages> cursor = {};

  __device__ uint32 stage() const { return ring.data + cursor.stage * kConfig.stage_bytes(); }
  __device__ uint32 full() const { return ring.full + 8 * cursor.stage; }
  __device__ void wait_empty() const { ring.wait(ring.empty + 8 * cursor.stage, cursor.phase ^ 1); }

  __device__ const uint8* weights(const Tile& tile) const {
    return args.weights +
           (static_cast<int64>(tile.expert) * args.row_tiles + kConfig.groups * tile.wide) *
               args.k_tiles * kConfig.weight_bytes();
  }

  /// Weights of one tile leave L2 first; those of several stay.
  __device__ static uint64 policy_of(const Tile& tile) {
    return tile.sharers == 1 ? ptx::policy_evict_first() : ptx::policy_evict_normal();
  }

  /// All parts of the weights; of a cluster each CTA loads one for both.
  __device__ void copy_weights(const Tile& tile, const uint8* from, uint64 policy) {
    const int64 part_bytes = static_cast<int64>(args.k_tiles) * kConfig.weight_bytes();
    if constexpr (kConfig.cluster == 1) {
      for (int part = 0; part < tile.parts; ++part)
        ptx::copy_bulk_streaming(stage() + kConfig.token_bytes() + part * kConfig.weight_bytes(),
                                 from + part * part_bytes, kConfig.weight_bytes(), full(), policy);
    } else {
      const int part = static_cast<int>(ptx::cluster_rank());
      if (part < tile.parts)
        ptx::copy_bulk_multicast(stage() + kConfig.token_bytes() + part * kConfig.weight_bytes(),
                                 from + part * part_bytes, kConfig.weight_bytes(), full(), 3,
                                 policy);
    }
  }

  /// Weights by bulk copies, tokens gathered 16 bytes a copy: thread serves chunk thread % 8 of
  /// rows thread / 8 + 16 i. Rows that are not there keep what lies there: nothing reads their
  /// results.
  __device__ void gather() {
    constexpr int kPasses = (kConfig.block + 15) / 16;
    constexpr uint32 kNone = ~0u;
    const int chunk = thread % 8;
    const uint32 at = (thread / 8) * 128 + ((chunk ^ (thread / 8 % 8)) << 4);
    Schedule<kConfig> schedule(args);
    int next_token[kPasses];  // loaded while this tile is copied
    Tile tile, next;
    const auto load_tokens = [&] {
#pragma unroll
      for (int i = 0; i < kPasses; ++i) {
        const int r = thread / 8 + 16 * i;
        if (r < next.rows) next_token[i] = args.lists.row_token[next.row + r];
      }
    };
    bool more = schedule.take(next);
    if (more) load_tokens();
    while (more) {
      tile = next;
      uint32 row[kPasses];  // where the token's row starts, in chunks
#pragma unroll
      for (int i = 0; i < kPasses; ++i)
        row[i] = thread / 8 + 16 * i < tile.rows
                     ? static_cast<uint32>(next_token[i]) * static_cast<uint32>(args.hidden / 8)
                     : kNone;
      more = schedule.take(next);
      if (more) load_tokens();
      const uint8* from = weights(tile);
      const uint64 policy = policy_of(tile);
      int column = chunk * 8;
      for (int k = 0; k < args.k_tiles;
           ++k, column += Config::kDepth, from += kConfig.weight_bytes()) {
        wait_empty();
        if (thread == 0) {
          ptx::mbarrier_arrive_expect(full(), tile.parts * kConfig.weight_bytes());
          copy_weights(tile, from, policy);
        }
        const bool inside = column < args.hidden;
        const auto* tokens = reinterpret_cast<const uint8*>(args.tokens + (inside ? column : 0));
#pragma unroll
        for (int i = 0; i < kPasses; ++i)
          if (row[i] != kNone)
            ptx::copy_16(stage() + at + i * 2048, tokens + static_cast<uint64>(row[i]) * 16,
                         inside ? 16 : 0);
        ptx::mbarrier_arrive_copies(full());
        cursor.advance();
      }
    }
  }

  /// What the consumers need to add a tile: it comes with the tile's last step.
  __device__ void copy_rows(const Tile& tile, const Ring& rows, Cursor<2>& slot, bool first) const {
    if (kConfig.sums() && first) {
      const uint32 all = gridDim.x * kStorerWarps;
      device::wait_until([&] { return ptx::load_acquire(args.scaled) == all; });
      ptx::fence_proxy_async_global();
    }
    const uint32 to = rows.data + slot.stage * kConfig.row_bytes(),
                 full = rows.full + 8 * slot.stage;
    const uint32 bytes = (tile.rows + 7) / 8 * 32;
    rows.wait(rows.empty + 8 * slot.stage, slot.phase ^ 1);
    if constexpr (kConfig.sums()) {
      ptx::mbarrier_arrive_expect(full, 2 * bytes);
      ptx::copy_bulk(to, args.lists.row_token + tile.row, bytes, full);
      ptx::copy_bulk(to + kConfig.block * 4, args.row_scale + tile.row, bytes, full);
    } else {
      ptx::mbarrier_arrive_expect(full, bytes);
      ptx::copy_bulk(to, args.row_bound + tile.row, bytes, full);
    }
    slot.advance();
  }

  /// Both operands lie in copy order: one thread.
  __device__ void stream(const Ring& rows) {
    const int64 act_tile = static_cast<int64>(args.row_capacity) * 128;
    bool first = true;
    Cursor<2> slot;
    Schedule<kConfig> schedule(args);
    for (Tile tile; schedule.take(tile);) {
      const uint8* from = weights(tile);
      const uint64 policy = policy_of(tile);
      const uint8* tokens =
          reinterpret_cast<const uint8*>(args.act) + static_cast<int64>(tile.row) * 128;
      const uint32 bytes = (tile.rows + 7) / 8 * 1024;
#pragma unroll 1
      for (int k = 0; k < args.k_tiles; ++k, from += kConfig.weight_bytes(), tokens += act_tile) {
        wait_empty();
        ptx::mbarrier_arrive_expect(full(), tile.parts * kConfig.weight_bytes() + bytes);
        copy_weights(tile, from, policy);
        if (first && k == 0) ptx::wait_previous_kernel();  // FC1 writes `act`
        if (bytes) ptx::copy_bulk(stage(), tokens, bytes, full());
        cursor.advance();
      }
      if (tile.rows > 0) copy_rows(tile, rows, slot, first), first = false;
    }
  }
};

}  // namespace switchyard::grouped_gemm
