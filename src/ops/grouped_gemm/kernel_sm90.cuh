// Grouped GEMM for batches: FC1 gathers tokens and applies the activation, FC2 sums a token's
// experts up, in integers: the same bits every run, whatever the order of additions (sums.cuh).
//
//   grid   one CTA an SM, all resident, in clusters of 1 or 2; a producer and two consumer
//          warpgroups, or four where there is much to decode, and FC2's storers
//   smem   ring of {256 or 512 x 64 weight tile, block x 64 token tile}
//   work   tiles of 256 or 512 weight rows x one block of an expert's tokens, dealt out round
//          robin; a warpgroup has 128 of the rows. The CTAs of a cluster have the same weights,
//          each loads half of them for both, and different tokens
//   sums   FC2 adds to sums that stay in L2; storers store those of a finished span of rows while
//          the tensor cores are in the next ones
//   limit  tensor cores; memory when experts have few tokens
//
// Longer than other files: a consumer's products and its three ends have the accumulators' layout
// in common.
#pragma once

#include "device/fp4.cuh"
#include "device/mma_sm90.cuh"
#include "device/row_scale.cuh"
#include "device/wait.cuh"
#include "ops/grouped_gemm/producer.cuh"
#include "ops/grouped_gemm/schedule.cuh"
#include "ops/grouped_gemm/shared.cuh"
#include "ops/grouped_gemm/sums.cuh"

namespace switchyard::grouped_gemm {

/// Sums of a warpgroup: rows [64 m, 64 m + 64) of its 128, kN tokens.
template <int kN>
struct Accumulators {
  float half[2][kN / 2];
};

template <Config kConfig>
struct Consumer {
  const Args& args;
  const Ring& ring;
  int thread;        // of all consumers
  const Ring& rows;  // FC2
  Progress& progress;
  uint32 lot = first_lot();  // in shared memory
  Cursor<kConfig.stages> cursor = {};
  Cursor<2> slot = {};

  static constexpr bool kGated = device::is_gated(kConfig.activation);
  static constexpr bool kPacked = kConfig.weights != Weights::half;
  /// Weights are loaded while the last are multiplied; four warpgroups have no registers for them,
  /// and do not wait as much.
  static constexpr bool kAhead = kPacked && kConfig.groups == 2;
  __device__ int lane() const { return thread % 32; }
  __device__ int warpgroup() const { return thread / 128; }
  /// Of the 8 groups of 16 rows that a warpgroup has, the one that half m of this warp's
  /// accumulators is.
  __device__ int group(int m) const { return m * 4 + thread / 32 % 4; }

  __device__ void release(int stage) const {
    if (lane() >= kConfig.cluster) return;
    const uint32 barrier = ring.empty + 8 * stage;
    if constexpr (kConfig.cluster == 1)
      ptx::mbarrier_arrive(barrier);
    else
      ptx::mbarrier_arrive_peer(barrier, lane());
  }

  template <int kN>
  __device__ void multiply(Accumulators<kN>& acc) {
#pragma unroll
    for (int i = 0; i < kN; ++i) acc.half[i / (kN / 2)][i % (kN / 2)] = 0;
    Packed packed;
    wait_full();
    if constexpr (kAhead) packed = load_packed();
    int previous = -1;
    for (int k = 0; k < args.k_tiles; ++k) {
      const int stage = cursor.stage;
      const uint64 b = device::operand(ring.data + stage * kConfig.stage_bytes());
      const uint32 weights = own_weights();
      if constexpr (kPacked && !kAhead) packed = load_packed();
      cursor.advance();
      const bool more = k + 1 < args.k_tiles;
      if constexpr (kPacked) {
        packed_step(acc, packed, b, previous, more);
      } else {
        step(acc, weights, b, previous);
        if (more) wait_full();
      }
      previous = stage;
    }
    ptx::wgmma_wait<0>();
    ptx::pin(acc.half[0]);
    ptx::pin(acc.half[1]);
    release(previous);
  }

  __device__ void wait_full() const {
    ring.wait(ring.full + 8 * cursor.stage, cursor.phase);
    if constexpr (kConfig.phase == Phase::fc1) ptx::fence_proxy_async();
  }
  /// This warpgroup's weights in the stage.
  __device__ uint32 own_weights() const {
    return ring.data + cursor.stage * kConfig.stage_bytes() + kConfig.token_bytes() +
           warpgroup() * kConfig.weight_bytes();
  }

  /// One stage's products, under way on return; those of the stage before are done, and it is free.
  template <int kN>
  __device__ void step(Accumulators<kN>& acc, uint32 weights, uint64 b, int previous) {
    const uint64 a = device::operand(weights);
    constexpr int kHalf = kConfig.weight_bytes() / 2 / 16;  // in units of the descriptor
    ptx::wgmma_fence();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      device::wgmma<kN, kConfig.half>(acc.half[0], a + 2 * i, b + 2 * i);
      device::wgmma<kN, kConfig.half>(acc.half[1], a + kHalf + 2 * i, b + 2 * i);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
    if (previous >= 0) release(previous);
  }

  using Scales = device::Fp4Scales<kConfig.weights>;
  /// A thread's part of a stage's packed weights, for either half of the rows.
  struct Packed {
    uint4 words[2];
    Scales scales[2];
  };
  __device__ Packed load_packed() const {
    Packed packed;
    const uint32 weights = own_weights();
    const int own = thread % 128;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      packed.words[m] = ptx::load_shared_4(weights + (m * 128 + own) * 16);
      packed.scales[m] =
          Scales::load(weights + device::kFp4CodeBytes +
                       device::fp4_scales_at(kConfig.weights, own / 32, lane() / 4, m));
    }
    return packed;
  }

  /// The same with weights that are decoded on the way: 64 rows of 32 columns while the last
  /// are multiplied, from other registers. Leaves the next stage's, if there are more.
  template <int kN>
  __device__ void packed_step(Accumulators<kN>& acc, Packed& packed, uint64 b, int previous,
                              bool more) {
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      const int m = part % 2, columns = part / 2;  // half of the rows, 32 columns
      const uint4& words = packed.words[m];
      uint32 a[2][4];
      device::decode_fp4<kConfig.weights>(columns ? words.z : words.x, columns ? words.w : words.y,
                                          packed.scales[m].words[columns], a);
      ptx::wgmma_fence();
#pragma unroll
      for (int i = 0; i < 2; ++i)
        device::wgmma<kN, kConfig.half>(acc.half[m], static_cast<const uint32*>(a[i]),
                                        b + 2 * (2 * columns + i));
      ptx::wgmma_commit();
      if (part == 3 && more) {
        wait_full();
        if constexpr (kAhead) packed = load_packed();
      }
      ptx::wgmma_wait<1>();
      if (part == 0 && previous >= 0) release(previous);
    }
  }

  /// Lets a tile pass that has nothing for this warpgroup.
  __device__ void skip() {
    for (int k = 0; k < args.k_tiles; ++k) {
      ring.wait(ring.full + 8 * cursor.stage, cursor.phase);
      release(cursor.stage);
      cursor.advance();
    }
  }

  struct Bias {
    float gate, up;
  };
  __device__ float2 factors(const Tile& tile) const {
    return kPacked ? reinterpret_cast<const float2*>(args.factors)[tile.expert] : float2{1, 1};
  }
  /// Of FC1's outputs the one whose bias, in part `part` of the accumulators' half m, is this
  /// lane's.
  __device__ int output(const Tile& tile, int m, int part) const {
    return (tile.wide * kConfig.groups + warpgroup()) * kConfig.act_rows() +
           group(m) * (kGated ? 8 : 16) + part * 8 + lane() / 4;
  }
  __device__ Bias bias(const Tile& tile, int i) const {
    if (!kConfig.bias || i >= args.intermediate) return {0, 0};
    const float* of =
        args.bias + static_cast<int64>(tile.expert) * ((kGated ? 2 : 1) * args.intermediate);
    return {of[i], kGated ? of[args.intermediate + i] : 0};
  }
  static constexpr int kParts = kGated ? 1 : 2;

  /// Of column c of 8 (0 or 1: this lane's). Beyond I weights are zeros, and every activation of 0
  /// is 0.
  __device__ float activate(const float* values, float2 factor, const Bias& b, const Tile& tile,
                            int column) const {
    float gate = values[0], up = kGated ? values[2] : 0;
    if constexpr (kPacked) gate *= factor.x, up *= factor.y;
    if constexpr (kConfig.weight_on_input) {
      const float weight = column < tile.rows ? args.lists.row_weight[tile.row + column] : 0;
      gate *= weight, up *= weight;
    }
    if constexpr (kConfig.bias) gate += b.gate, up += b.up;
    return device::activate<kConfig.activation, device::FastMath>(gate, up, args.constants);
  }

  // Outputs leave by way of shared memory, kLot tokens at a time: a warp has 8 or 16 outputs of a
  // token in each half of its accumulators, the warpgroup 64 or 128. A lot lies there like `act`:
  // parts of 64 outputs, a token's 128 bytes in one, 16-byte chunk c at c ^ (token % 8).

  /// Puts the 8 x 8 matrices {token 0, token 8} x {half 0, half 1}, or x two of one half, into a
  /// lot, whose part they are in and as which chunks there.
  __device__ void put(int part, int chunk, int next, const uint32 (&words)[4]) const {
    const int token = lane() % 16;
    ptx::store_matrices_transposed(
        lot + (part * Config::kLot + token) * 128 + ((lane() < 16 ? chunk : next) ^ token % 8) * 16,
        words);
  }
  /// After every warp has put its outputs: the 8 of part `part` that are this thread's to store, of
  /// the lot's token `taken()`.
  __device__ uint4 take(int part) const {
    return ptx::load_shared_4(lot + part * Config::kLot * 128 + thread % 128 * 16);
  }
  __device__ int taken() const {
    return thread % 128 / 8;
  }
  /// Thousands of tokens' outputs do not stay in L2 until they are read: they leave it first, and
  /// the tokens stay. (MXFP4's decoding leaves no registers for that.)
  __device__ static void write(void* to, uint4 eight) {
    if constexpr (kConfig.block >= 128 && kConfig.weights != Weights::mxfp4)
      __stcs(static_cast<uint4*>(to), eight);
    else
      *static_cast<uint4*>(to) = eight;
  }
  __device__ void sync_warpgroup() const {
    ptx::bar_sync(1 + warpgroup(), 128);
  }
  __device__ void next_lot() {
    lot = 2 * first_lot() + kConfig.lot_bytes() - lot;
  }
  /// Of this warpgroup's two.
  __device__ uint32 first_lot() const {
    return ring.data + kConfig.stages * kConfig.stage_bytes() +
           warpgroup() * 2 * kConfig.lot_bytes();
  }

  template <int kN>
  __device__ void fc1(const Tile& tile) {
    Bias biases[2 * kParts];  // loaded before the tile's products, used after them
#pragma unroll
    for (int p = 0; p < 2 * kParts; ++p)
      biases[p] = bias(tile, output(tile, p / kParts, p % kParts));
    const RowNorm norm = args.norms[tile.expert];
    const float2 factor = factors(tile);
    Accumulators<kN> acc;
    multiply(acc);
    const int64 act_tile = static_cast<int64>(args.row_capacity) * 128;
    uint8* to = reinterpret_cast<uint8*>(args.act) +
                (tile.wide * kConfig.groups + warpgroup()) * kParts * act_tile +
                static_cast<int64>(tile.row) * 128 + thread % 128 * 16;
#pragma unroll
    for (int j = 0; j < kN / 8; j += 2, to += Config::kLot * 128) {
      if (j * 8 >= tile.rows) break;
      uint32 words[kParts][4];
#pragma unroll
      for (int i = 0; i < 4 * kParts; ++i) {  // of half m: part p, tokens 8 h and on
        const int m = i / (2 * kParts), p = i / 2 % kParts, h = i % 2;
        const float* values = acc.half[m] + (j + h) * 4 + 2 * p;
        const int column = (j + h) * 8 + lane() % 4 * 2;
        words[i / 4][i % 4] = device::pack_f32<kConfig.half>(
            activate(values, factor, biases[m * kParts + p], tile, column),
            activate(values + 1, factor, biases[m * kParts + p], tile, column + 1));
      }
      const int warp = thread / 32 % 4;
      if constexpr (kGated) {
        put(0, warp, warp + 4, words[0]);
      } else {
        put(0, warp * 2, warp * 2 + 1, words[0]);
        put(1, warp * 2, warp * 2 + 1, words[1]);
      }
      sync_warpgroup();
      uint32 largest = 0;
      const int column = j * 8 + taken();
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const uint4 eight = take(part);
        largest = ptx::max_u16x2(largest, largest_of(eight));
        if (column < tile.rows) write(to + part * act_tile, eight);
      }
      bound_row(largest, norm, tile.row + column, column < tile.rows);
      next_lot();
    }
  }

  /// Magnitudes, of either half the largest.
  __device__ static uint32 largest_of(const uint4& eight) {
    constexpr uint32 kMagnitude = 0x7fff7fff;
    return ptx::max_u16x2(ptx::max_u16x2(eight.x & kMagnitude, eight.y & kMagnitude),
                          ptx::max_u16x2(eight.z & kMagnitude, eight.w & kMagnitude));
  }
  /// Raises the row's bound to what the values of 8 lanes, as 16-bit magnitudes, make possible.
  __device__ void bound_row(uint32 largest, const RowNorm& norm, int row, bool there) const {
#pragma unroll
    for (int d = 1; d < 8; d *= 2)
      largest = ptx::max_u16x2(largest, __shfl_xor_sync(~0u, largest, d));
    if (lane() % 8 != 0 || !there) return;
    const float value =
        device::to_f32<kConfig.half>(static_cast<uint16>(max(largest & 0xffff, largest >> 16)));
    ptx::reduce_max(args.row_bound + row, bits_as<uint32>(value * norm.weights + norm.bias));
  }

  /// FC2's bias of the rows that half m of the accumulators has: lane / 4 and 8 more.
  __device__ void load_biases(const Tile& tile, float (&bias)[2][2]) const {
    for (int i = 0; i < (kConfig.bias ? 4 : 0); ++i) {
      const int h = first_row(tile, i / 2) + i % 2 * 8 + lane() / 4;
      if (h < args.hidden)
        bias[i / 2][i % 2] = args.bias[static_cast<int64>(tile.expert) * args.hidden + h];
    }
  }
  __device__ int first_row(const Tile& tile, int m) const {
    return (tile.wide * kConfig.groups + warpgroup()) * Config::kRows + group(m) * 16;
  }

  /// Stores the tile.
  template <int kN>
  __device__ void store(const Tile& tile) {
    float bias[2][2] = {};  // loaded before the tile's products, used after them
    load_biases(tile, bias);
    const float factor = factors(tile).x;
    Accumulators<kN> acc;
    multiply(acc);
    ring.wait(rows.full + 8 * slot.stage, slot.phase);
    const uint32 bounds = rows.data + slot.stage * kConfig.row_bytes() + lane() % 4 * 8;
    const int h =
        (tile.wide * kConfig.groups + warpgroup()) * Config::kRows + (thread % 8 ^ taken() % 8) * 8;
    uint16* to = args.out + static_cast<int64>(tile.row + taken()) * args.hidden + h;
#pragma unroll
    for (int j = 0; j < kN / 8; j += 2, to += static_cast<int64>(Config::kLot) * args.hidden) {
      if (j * 8 >= tile.rows) break;
      uint32 words[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {                                     // tokens 8 i and on
        const uint2 bound = ptx::load_shared_2(bounds + (j + i) * 32);  // of a lane's two columns
        const float scale = device::row_scale(bound.x), next = device::row_scale(bound.y);
#pragma unroll
        for (int p = 0; p < 4; ++p) {  // of half p / 2 the rows 8 (p % 2) and on
          const float* values = acc.half[p / 2] + (j + i) * 4 + 2 * (p % 2);
          const float b = bias[p / 2][p % 2];
          words[p / 2][p % 2 * 2 + i] = device::pack_f32<Half::fp16>(
              (values[0] * factor + b) * scale, (values[1] * factor + b) * next);
        }
      }
      const int warp = thread / 32 % 4;
      put(0, warp * 2, warp * 2 + 1, words[0]);
      put(1, warp * 2, warp * 2 + 1, words[1]);
      sync_warpgroup();
#pragma unroll
      for (int part = 0; part < 2; ++part)
        if (j * 8 + taken() < tile.rows && h + part * 64 < args.hidden)
          write(to + part * 64, take(part));
      next_lot();
    }
  }

  /// Adds the tile to its tokens' sums: of a wide, wide_rows a token, row r and r + 8 side by side.
  template <int kN>
  __device__ void add(const Tile& tile) {
    constexpr int kPairs = kConfig.wide_rows() / 2;
    float bias[2][2] = {};  // loaded before the tile's products, used after them
    load_biases(tile, bias);
    const float factor = factors(tile).x;
    Accumulators<kN> acc;
    multiply(acc);
    ring.wait(rows.full + 8 * slot.stage, slot.phase);
    device::wait_until([&] { return progress.is_open(tile.span); });
    __threadfence_block();
    const uint32 row = rows.data + slot.stage * kConfig.row_bytes() + lane() % 4 * 8;
    uint64* sums = reinterpret_cast<uint64*>(Storer<kConfig>::place(
                       args, tile.span, tile.wide - tile.span * args.width)) +
                   warpgroup() * (Config::kRows / 2) + lane() / 4;
#pragma unroll
    for (int j = 0; j < kN / 8; ++j) {
      const uint2 token = ptx::load_shared_2(row + j * 32);
      const uint2 scale = ptx::load_shared_2(row + kConfig.block * 4 + j * 32);
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        if (j * 8 + lane() % 4 * 2 + c >= tile.rows) continue;
        uint64* to = sums + static_cast<int64>(c ? token.y : token.x) * kPairs;
        const float by = bits_as<float>(c ? scale.y : scale.x);
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          const float* values = acc.half[m] + j * 4 + c;
          add_pair(to + group(m) * 8, (values[0] * factor + bias[m][0]) * by,
                   (values[2] * factor + bias[m][1]) * by);
        }
      }
    }
  }
  __device__ static void add_pair(uint64* to, float low, float high) {
    ptx::reduce_add(to, (static_cast<uint64>(__float2int_rn(high)) << 32) +
                            static_cast<uint64>(static_cast<int64>(__float2int_rn(low))));
  }

  template <int kN>
  __device__ void tile(const Tile& tile) {
    if constexpr (kConfig.phase == Phase::fc1)
      fc1<kN>(tile);
    else if constexpr (kConfig.sums())
      add<kN>(tile);
    else
      store<kN>(tile);
  }

  __device__ void run() {
    Schedule<kConfig> schedule(args);
    uint32 tiles = 0;
    for (Tile next; schedule.take(next);) {
      if (next.rows == 0 || warpgroup() >= next.parts)
        skip();
      else if (kConfig.narrow < kConfig.block && next.rows <= kConfig.narrow)
        tile<kConfig.narrow>(next);
      else
        tile<kConfig.block>(next);
      if constexpr (kConfig.phase == Phase::fc2) {
        // Who skipped the tile waits too: nobody is a whole turn of the row ring ahead.
        if (next.rows > 0) ring.wait(rows.full + 8 * slot.stage, slot.phase);
        __syncwarp();
        if (lane() == 0) {
          if (next.rows > 0) ptx::mbarrier_arrive(rows.empty + 8 * slot.stage);
          if constexpr (kConfig.sums()) {
            __threadfence_block();
            progress.add(tiles);
          }
        }
        ++tiles;
        if (next.rows > 0) slot.advance();
      }
    }
  }

  /// Zeros for FC2, before there is anything to multiply.
  __device__ void clear_sums() const {
    uint4* sums = reinterpret_cast<uint4*>(args.sums);
    const int64 count = args.sum_words / 4;
    for (int64 i = static_cast<int64>(blockIdx.x) * kConfig.consumers() + thread; i < count;
         i += static_cast<int64>(gridDim.x) * kConfig.consumers())
      sums[i] = {0, 0, 0, 0};
  }
};

template <Config kConfig>
__global__ void __launch_bounds__(kConfig.threads(), 1) kernel(const __grid_constant__ Args args) {
  extern __shared__ uint8 smem[];
  __shared__ uint64 barriers[2 * kConfig.stages + 4];
  __shared__ Progress progress;
  constexpr bool kFc1 = kConfig.phase == Phase::fc1;
  constexpr Config::Registers kRegisters = kConfig.registers();
  static_assert(kConfig.registers_fit(), "who takes registers would wait for them forever");
  const int thread = static_cast<int>(threadIdx.x);

  const uint32 data = ptx::keep((ptx::smem_u32(smem) + 1023) & ~1023u);
  const uint32 full = ptx::keep(ptx::smem_u32(barriers)), row_full = full + 16 * kConfig.stages;
  const Ring ring{data, full, full + 8 * kConfig.stages};
  const Ring rows{data + kConfig.stages * kConfig.stage_bytes() + kConfig.outgoing_bytes(),
                  row_full, row_full + 16};
  if (thread == 0) {
    for (int i = 0; i < kConfig.stages; ++i) {
      ptx::mbarrier_init(ring.full + 8 * i, kFc1 ? 1 + kProducers : 1);
      ptx::mbarrier_init(ring.empty + 8 * i, kConfig.cluster * kConfig.consumers() / 32);
    }
    for (int i = 0; i < 2; ++i) {
      ptx::mbarrier_init(rows.full + 8 * i, 1);
      ptx::mbarrier_init(rows.empty + 8 * i, kConfig.consumers() / 32);
    }
    ptx::fence_mbarrier_init();
    progress = {};
  }
  // FC2 starts when every CTA of FC1 has passed this: the lists are there, `act` is not.
  if constexpr (kFc1) ptx::wait_previous_kernel();
  ptx::launch_dependents();
  if constexpr (kConfig.cluster == 1)
    __syncthreads();
  else
    ptx::cluster_sync();

  if (thread < kProducers) {
    ptx::give_registers<kRegisters.producer>();
    Producer<kConfig> producer{args, ring, thread};
    if constexpr (kFc1)
      producer.gather();
    else if (thread == 0)
      producer.stream(rows);
    else if (kConfig.sums() && thread == 32)
      Clerk<kConfig>{args, progress}.run();
  } else if (thread < kProducers + kConfig.consumers()) {
    ptx::take_registers<kRegisters.consumer>();
    Consumer<kConfig> consumer{args, ring, thread - kProducers, rows, progress};
    if constexpr (kFc1 && kConfig.sum != Sum::none) consumer.clear_sums();
    consumer.run();
  } else if constexpr (kConfig.sums()) {
    ptx::give_registers<kRegisters.storer>();
    Storer<kConfig>(args, thread - kProducers - kConfig.consumers()).run();
  }
  // No CTA leaves while its peer may still write to it.
  if constexpr (kConfig.cluster > 1) ptx::cluster_sync();
}

}  // namespace switchyard::grouped_gemm
