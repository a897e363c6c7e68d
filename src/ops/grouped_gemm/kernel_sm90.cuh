// Grouped GEMM for batches: FC1 gathers tokens and applies the activation, FC2 sums a token's
// experts up, in the order of its slots: the same bits every run, without atomics.
//
//   grid   one CTA an SM, all resident; 384 threads: a producer and two consumer warpgroups
//   smem   ring of {128 x 64 weight tile, block x 64 token tile}
//   work   tiles of 128 weight rows x one block of an expert's tokens, dealt out round robin;
//   blocks
//          of an expert are neighbours, so its weights come from memory once
//   sums   FC2 walks spans of row tiles: all experts of a span write their rows to a ring that
//   stays
//          in L2, and spare warps sum a finished span up while the tensor cores are in the next
//          ones
//   limit  tensor cores, or memory when experts have few tokens
//
// Waits only ever are for tiles that come earlier in every CTA's order, so they end.
#pragma once

#include "device/mma_sm90.cuh"
#include "device/wait.cuh"
#include "ops/grouped_gemm/shared.cuh"

namespace switchyard::grouped_gemm {

constexpr int kProducers = 128;
constexpr int kConsumers = 256;
constexpr int kSummers = 96;  // FC2: the producer warps that do not copy

/// One tile of the output: rows [row, row + rows) of an expert, `readers` blocks in all.
struct Tile {
  int expert, row, rows, readers;
  int row_tile, span;
};

/// This CTA's tiles, in order: all of a span, then the next span's. The entry of the next one is
/// loaded while the last is worked on.
template <Config kConfig>
struct Schedule {
  const Args& args;
  int blocks;
  int span = 0, at;  // the next tile: its span, and its number there
  device::Block entry;

  __device__ explicit Schedule(const Args& a)
      : args(a), blocks(*a.lists.block_count), at(static_cast<int>(blockIdx.x)) {
    load();
  }

  static constexpr bool kSpans = kConfig.phase == Phase::fc2;
  __device__ int spans() const {
    return kSpans ? (args.row_tiles + kConfig.span - 1) / kConfig.span : 1;
  }
  /// Row tiles of the next tile's span: the last one may have fewer.
  __device__ int width() const {
    return kSpans ? min(kConfig.span, args.row_tiles - span * kConfig.span) : args.row_tiles;
  }
  __device__ void next_span() { at -= blocks * width(), ++span; }
  __device__ void load() {
    while (span < spans() && at >= blocks * width()) next_span();
    if (span < spans()) entry = args.lists.blocks[at / width()];
  }

  __device__ bool take(Tile& tile) {
    if (span >= spans()) return false;
    int row_tile = at - entry.first * width(), skipped = 0;
    const int count = (entry.rows + kConfig.block - 1) / kConfig.block;
    if (count > 1) {  // blocks of an expert are neighbours
      skipped = row_tile % count * kConfig.block;
      row_tile /= count;
    }
    tile = {.expert = entry.expert,
            .row = entry.row + skipped,
            .rows = min(entry.rows - skipped, kConfig.block),
            .readers = count,
            .row_tile = span * (kSpans ? kConfig.span : 0) + row_tile,
            .span = span};
    at += static_cast<int>(gridDim.x);
    load();
    return true;
  }
};

using device::Cursor;
using device::Ring;

template <Config kConfig>
struct Producer {
  const Args& args;
  const Ring& ring;
  int thread;
  Cursor<kConfig.stages> cursor;

  __device__ const uint8* weight_tile(const Tile& tile) const {
    return args.weights + (static_cast<int64>(tile.expert) * args.row_tiles + tile.row_tile) *
                              args.k_tiles * Config::kWeightBytes;
  }

  /// Weights by one bulk copy, tokens gathered 16 bytes a copy: thread serves chunk thread % 8 of
  /// rows thread / 8 + 16 i. Rows that are not there keep what lies there: nothing reads their
  /// results.
  __device__ void gather() {
    constexpr int kPasses = (kConfig.block + 15) / 16;
    constexpr uint32 kNone = ~0u;
    const int chunk = thread % 8;
    const uint32 at = Config::kWeightBytes + (thread / 8) * 128 + ((chunk ^ (thread / 8 % 8)) << 4);
    const uint64 policy = ptx::policy_evict_first();
    Schedule<kConfig> schedule(args);
    Tile tile;
    while (schedule.take(tile)) {
      const uint8* weights = weight_tile(tile);
      uint32 row[kPasses];  // where the token's row starts, in chunks
#pragma unroll
      for (int i = 0; i < kPasses; ++i) {
        const int r = thread / 8 + 16 * i;
        row[i] = r < tile.rows ? static_cast<uint32>(args.lists.row_token[tile.row + r]) *
                                     static_cast<uint32>(args.hidden / 8)
                               : kNone;
      }
      int column = chunk * 8;
      for (int k = 0; k < args.k_tiles; ++k, column += Config::kDepth) {
        const uint32 stage = ring.data + cursor.stage * kConfig.stage_bytes();
        const uint32 full = ring.full + 8 * cursor.stage;
        ring.wait(ring.empty + 8 * cursor.stage, cursor.phase ^ 1);
        if (thread == 0) {
          ptx::mbarrier_arrive_expect(full, Config::kWeightBytes);
          copy_weights(stage, weights + static_cast<int64>(k) * Config::kWeightBytes, full,
                       tile.readers, policy);
        }
        const bool inside = column < args.hidden;
        const uint16* from = args.tokens + (inside ? column : 0);
#pragma unroll
        for (int i = 0; i < kPasses; ++i)
          if (row[i] != kNone)
            ptx::copy_16(stage + at + i * 2048, from + static_cast<int64>(row[i]) * 8,
                         inside ? 16 : 0);
        ptx::mbarrier_arrive_copies(full);
        cursor.advance();
      }
    }
  }

  /// Weights that one block reads leave L2 first; those of several stay.
  __device__ static void copy_weights(uint32 to, const uint8* from, uint32 full, int readers,
                                      uint64 policy) {
    if (readers == 1) {
      ptx::copy_bulk_streaming(to, from, Config::kWeightBytes, full, policy);
    } else {
      ptx::copy_bulk(to, from, Config::kWeightBytes, full);
    }
  }

  /// Both operands lie in copy order: one thread, two copies a stage.
  __device__ void stream() {
    const uint64 policy = ptx::policy_evict_first();
    const uint8* act = reinterpret_cast<const uint8*>(args.act);
    const int64 act_tile = static_cast<int64>(args.row_capacity) * 128;
    bool waited = false;
    Schedule<kConfig> schedule(args);
    Tile tile;
    while (schedule.take(tile)) {
      const uint8* weights = weight_tile(tile);
      const uint8* tokens = act + static_cast<int64>(tile.row) * 128;
      const uint32 bytes = (tile.rows + 7) / 8 * 1024;
      for (int k = 0; k < args.k_tiles; ++k) {
        const uint32 stage = ring.data + cursor.stage * kConfig.stage_bytes();
        const uint32 full = ring.full + 8 * cursor.stage;
        ring.wait(ring.empty + 8 * cursor.stage, cursor.phase ^ 1);
        ptx::mbarrier_arrive_expect(full, Config::kWeightBytes + bytes);
        copy_weights(stage, weights + static_cast<int64>(k) * Config::kWeightBytes, full,
                     tile.readers, policy);
        if (!waited) ptx::wait_previous_kernel(), waited = true;  // FC1 writes `act`
        ptx::copy_bulk(stage + Config::kWeightBytes, tokens + k * act_tile, bytes, full);
        cursor.advance();
      }
    }
  }
};

template <Config kConfig>
struct Consumer {
  const Args& args;
  const Ring& ring;
  int thread;  // 0..255
  Cursor<kConfig.stages> cursor;
  int span = -1, written = 0;  // FC2: this CTA's tiles of the span at hand that are written

  static constexpr bool kGated = device::is_gated(kConfig.activation);
  __device__ int lane() const { return thread % 32; }
  __device__ int warp() const { return thread / 32; }

  __device__ void release(int stage) const {
    if (lane() == 0) ptx::mbarrier_arrive(ring.empty + 8 * stage);
  }

  /// acc [64 rows of this warpgroup, kN] = the tile's product.
  template <int kN>
  __device__ void multiply(float (&acc)[kN / 2]) {
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) acc[i] = 0;
    int previous = -1;
    for (int k = 0; k < args.k_tiles; ++k) {
      ring.wait(ring.full + 8 * cursor.stage, cursor.phase);
      if constexpr (kConfig.phase == Phase::fc1) ptx::fence_proxy_async();
      const uint32 stage = ring.data + cursor.stage * kConfig.stage_bytes();
      const uint64 a = device::operand(stage + (thread / 128) * (64 * 128));
      const uint64 b = device::operand(stage + Config::kWeightBytes);
      ptx::wgmma_fence();
#pragma unroll
      for (int i = 0; i < 4; ++i) device::wgmma<kN, kConfig.half>(acc, a + 2 * i, b + 2 * i);
      ptx::wgmma_commit();
      ptx::wgmma_wait<1>();
      if (previous >= 0) release(previous);
      previous = cursor.stage;
      cursor.advance();
    }
    ptx::wgmma_wait<0>();
    release(previous);
  }

  /// The accumulators' columns 8 j + 2 (lane % 4) and the next, rows lane / 4 and 8 more. Two lanes
  /// swap, so that each has two neighbouring outputs of one token: stores of 4 bytes.
  __device__ uint32 pair_up(float even_column, float odd_column) const {
    const bool odd = lane() / 4 % 2 == 1;
    const float other = __shfl_xor_sync(~0u, odd ? even_column : odd_column, 4);
    return odd ? device::pack_f32<kConfig.half>(other, odd_column)
               : device::pack_f32<kConfig.half>(even_column, other);
  }

  template <int kN>
  __device__ void store_act(const float (&acc)[kN / 2], const Tile& tile) const {
    constexpr int kParts = kGated ? 2 : 1;
    const Tile& b = tile;
    const float* bias = args.bias + static_cast<int64>(b.expert) * (kParts * args.intermediate);
#pragma unroll
    for (int part = 0; part < 3 - kParts; ++part) {
      // This lane's output in the row tile, and where its chunk of 8 lies.
      const int in_tile = warp() * (kGated ? 8 : 16) + part * 8 + lane() / 4;
      const int i = tile.row_tile * kConfig.act_rows() + in_tile;
      const bool inside = i < args.intermediate;
      const float gate_bias = kConfig.bias && inside ? bias[i] : 0;
      const float up_bias = kConfig.bias && kGated && inside ? bias[args.intermediate + i] : 0;
      uint16* chunk_base =
          args.act + static_cast<int64>(i / 64) * args.row_capacity * 64 + lane() / 8 % 4 * 2;
      const int chunk = i % 64 / 8;
#pragma unroll
      for (int j = 0; j < kN / 8; ++j) {
        float y[2];
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const int column = j * 8 + lane() % 4 * 2 + c, at = j * 4 + c + 2 * part;
          float on_input = 1;
          if constexpr (kConfig.weight_on_input)
            on_input = column < b.rows ? args.lists.row_weight[b.row + column] : 0;
          const float gate = acc[at] * on_input + gate_bias;
          const float up = kGated ? acc[at + (kGated ? 2 : 0)] * on_input + up_bias : 0;
          y[c] = device::activate<kConfig.activation, device::FastMath>(gate, up, args.constants);
          y[c] = inside ? y[c] : 0;
        }
        const uint32 two = pair_up(y[0], y[1]);
        const int column = j * 8 + lane() % 4 * 2 + lane() / 4 % 2;
        if (column >= b.rows) continue;
        const int row = b.row + column;
        *reinterpret_cast<uint32*>(chunk_base + static_cast<int64>(row) * 64 +
                                   (chunk ^ (row % 8)) * 8) = two;
      }
    }
  }

  /// Row r of a span's ring slot: [span, 128] with rows lane / 4 and 8 more of a warp side by side.
  template <int kN>
  __device__ void store_rows(const float (&acc)[kN / 2], const Tile& tile) const {
    const Tile& b = tile;
    const int h = tile.row_tile * Config::kRows + warp() * 16 + lane() / 4;
    float bias[2] = {};
    if constexpr (kConfig.bias)
      for (int i = 0; i < 2; ++i)
        if (h + 8 * i < args.hidden)
          bias[i] = args.bias[static_cast<int64>(b.expert) * args.hidden + h + 8 * i];
    const int slot = tile.span % kConfig.slots, in_span = tile.row_tile - tile.span * kConfig.span;
    constexpr int kWidth = kConfig.span * Config::kRows / 2;  // pairs of a row
    float2* to = reinterpret_cast<float2*>(args.rows) +
                 (static_cast<int64>(slot) * args.row_capacity + b.row) * kWidth +
                 in_span * (Config::kRows / 2) + warp() * 8 + lane() / 4;
    constexpr int kGroup = kN / 4 < 8 ? kN / 4 : 8;  // loads under way before the first is used
#pragma unroll
    for (int group = 0; group < kN / 4; group += kGroup) {
      float weight[kGroup];
#pragma unroll
      for (int j = 0; j < kGroup; ++j)
        weight[j] = kConfig.weight_on_input
                        ? 1
                        : args.lists.row_weight[b.row + min(column_of(group + j), b.rows - 1)];
#pragma unroll
      for (int j = 0; j < kGroup; ++j) {
        const int column = column_of(group + j), at = (group + j) / 2 * 4 + j % 2;
        if (column < b.rows)
          to[column * kWidth] = {weight[j] * (acc[at] + bias[0]),
                                 weight[j] * (acc[at + 2] + bias[1])};
      }
    }
  }
  /// The column of this lane's j-th pair of accumulators.
  __device__ int column_of(int j) const {
    return j / 2 * 8 + lane() % 4 * 2 + j % 2;
  }

  template <int kN>
  __device__ void tile(const Tile& tile_) {
    float acc[kN / 2];
    multiply<kN>(acc);
    if constexpr (kConfig.phase == Phase::fc1) {
      store_act<kN>(acc, tile_);
    } else {
      enter(tile_.span);
      store_rows<kN>(acc, tile_);
      ++written;
    }
  }

  /// Before a tile's rows are written: the last span is told what was written to it, and the ring's
  /// slot is free once the span that had it is summed up.
  __device__ void enter(int next_span) {
    if (next_span == span) return;
    leave();
    span = next_span;
    if (span < kConfig.slots) return;
    if (thread == 0)  // one asks: thousands would keep the word's slice of L2 busy
      device::wait_until(
          [&] { return ptx::load_acquire(args.summed + span - kConfig.slots) == gridDim.x; });
    ptx::bar_sync(1, kConsumers);
  }
  __device__ void leave() {
    if (written == 0) return;
    __threadfence();
    ptx::bar_sync(1, kConsumers);
    if (thread == 0) ptx::add_release(args.done + span, written);
    written = 0;
  }

  __device__ void run() {
    Schedule<kConfig> schedule(args);
    Tile next;
    while (schedule.take(next)) {
      if (kConfig.narrow < kConfig.block && next.rows <= kConfig.narrow) {
        tile<kConfig.narrow>(next);
      } else {
        tile<kConfig.block>(next);
      }
    }
    leave();
  }
};

/// out[t, :] = the sum of the token's rows, span after span; each CTA has a part of T.
template <Config kConfig>
struct Summer {
  const Args& args;
  int thread;  // 0..95

  static constexpr int kWidth = kConfig.span * Config::kRows;
  static constexpr int kChunks = Config::kRows / 4;  // a thread loads 4 floats at once
  static constexpr int kDeep = 8;                    // loads under way at once

  __device__ void run() const {
    const int tokens =
        args.token_count ? min(*args.token_count, args.token_limit) : args.token_limit;
    const int begin = static_cast<int>(static_cast<int64>(tokens) * blockIdx.x / gridDim.x);
    const int end = static_cast<int>(static_cast<int64>(tokens) * (blockIdx.x + 1) / gridDim.x);
    const int blocks = *args.lists.block_count;
    for (int span = 0; span * kConfig.span < args.row_tiles; ++span) {
      const int width = min(kConfig.span, args.row_tiles - span * kConfig.span);
      const uint32 tiles = static_cast<uint32>(blocks * width);
      if (thread == 0)
        device::wait_until([&] { return ptx::load_acquire(args.done + span) == tiles; });
      ptx::bar_sync(2, kSummers);
      const int chunks = width * kChunks;
      for (int i = thread; i < (end - begin) * chunks; i += kSummers)
        sum(span, begin + i / chunks, i % chunks);
      __threadfence();
      ptx::bar_sync(2, kSummers);
      if (thread == 0) ptx::add_release(args.summed + span, 1);
    }
  }

  /// Output rows h, h + 8, h + 1, h + 9 of a token.
  __device__ void sum(int span, int token, int chunk) const {
    const float* from = args.rows +
                        static_cast<int64>(span % kConfig.slots) * args.row_capacity * kWidth +
                        chunk * 4;
    const int* slot_row = args.lists.slot_row + static_cast<int64>(token) * args.slots_a_token;
    float4 sum = {0, 0, 0, 0};
    for (int first = 0; first < args.slots_a_token; first += kDeep) {
      float4 part[kDeep];
#pragma unroll
      for (int i = 0; i < kDeep; ++i) {
        const int row = first + i < args.slots_a_token ? slot_row[first + i] : -1;
        part[i] = {0, 0, 0, 0};
        if (row >= 0)
          part[i] =
              __ldcg(reinterpret_cast<const float4*>(from + static_cast<int64>(row) * kWidth));
      }
#pragma unroll
      for (int i = 0; i < kDeep; ++i)
        sum.x += part[i].x, sum.y += part[i].y, sum.z += part[i].z, sum.w += part[i].w;
    }
    const int h = span * kWidth + chunk / 4 * 16 + chunk % 4 * 2;
    store(token, h, sum.x, sum.z);
    store(token, h + 8, sum.y, sum.w);
  }

  /// out[token, h] and the next; H is even.
  __device__ void store(int token, int h, float first, float second) const {
    if (h < args.hidden)
      *reinterpret_cast<uint32*>(args.out + static_cast<int64>(token) * args.hidden + h) =
          device::pack_f32<kConfig.half>(first, second);
  }
};

template <Config kConfig>
__global__ void __launch_bounds__(Config::kThreads, 1) kernel(const __grid_constant__ Args args) {
  extern __shared__ uint8 smem[];
  __shared__ uint64 barriers[2 * kConfig.stages];
  constexpr bool kFc1 = kConfig.phase == Phase::fc1;

  const Ring ring{(ptx::smem_u32(smem) + 1023) & ~1023u, ptx::smem_u32(barriers),
                  ptx::smem_u32(barriers + kConfig.stages)};
  if (threadIdx.x == 0) {
    for (int i = 0; i < kConfig.stages; ++i) {
      ptx::mbarrier_init(ring.full + 8 * i, kFc1 ? 1 + kProducers : 1);
      ptx::mbarrier_init(ring.empty + 8 * i, kConsumers / 32);
    }
    ptx::fence_mbarrier_init();
  }
  // FC2 starts when every CTA of FC1 has passed this: the lists are there, `act` is not.
  if constexpr (kFc1) ptx::wait_previous_kernel();
  ptx::launch_dependents();
  __syncthreads();

  if (threadIdx.x < kProducers) {
    ptx::give_registers<56>();
    const int thread = static_cast<int>(threadIdx.x);
    if constexpr (kFc1) {
      Producer<kConfig>{args, ring, thread, {}}.gather();
    } else if (thread == 0) {
      Producer<kConfig>{args, ring, thread, {}}.stream();
    } else if (thread >= 32) {
      Summer<kConfig>{args, thread - 32}.run();
    }
  } else {
    ptx::take_registers<224>();
    Consumer<kConfig>{args, ring, static_cast<int>(threadIdx.x) - kProducers, {}}.run();
  }
}

}  // namespace switchyard::grouped_gemm
