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
  Cursor<kConfig.stages> cursor = {};
  Cursor<2> slot = {};

  static constexpr bool kGated = device::is_gated(kConfig.activation);
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
    int previous = -1;
    for (int k = 0; k < args.k_tiles; ++k) {
      ring.wait(ring.full + 8 * cursor.stage, cursor.phase);
      if constexpr (kConfig.phase == Phase::fc1) ptx::fence_proxy_async();
      const uint32 tokens = ring.data + cursor.stage * kConfig.stage_bytes();
      const uint32 weights = tokens + kConfig.token_bytes() + warpgroup() * kConfig.weight_bytes();
      if constexpr (kConfig.weights == Weights::half)
        step(acc, weights, device::operand(tokens), previous);
      else
        packed_step(acc, weights, device::operand(tokens), previous);
      previous = cursor.stage;
      cursor.advance();
    }
    ptx::wgmma_wait<0>();
    ptx::pin(acc.half[0]);
    ptx::pin(acc.half[1]);
    release(previous);
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

  /// The same with weights that are decoded on the way: 64 rows of 32 columns while the last are
  /// multiplied, from other registers.
  template <int kN>
  __device__ void packed_step(Accumulators<kN>& acc, uint32 weights, uint64 b, int previous) {
    using Scales = device::Fp4Scales<kConfig.weights>;
    const int own = thread % 128;
    uint4 words[2];
    Scales scales[2];
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      words[m] = ptx::load_shared_4(weights + (m * 128 + own) * 16);
      scales[m] = Scales::load(weights + device::kFp4CodeBytes +
                               device::fp4_scales_at(kConfig.weights, own / 32, lane() / 4, m));
    }
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      const int m = part % 2, columns = part / 2;  // half of the rows, 32 columns
      uint32 a[2][4];
      device::decode_fp4<kConfig.weights>(columns ? words[m].z : words[m].x,
                                          columns ? words[m].w : words[m].y,
                                          scales[m].words[columns], a);
      ptx::wgmma_fence();
#pragma unroll
      for (int i = 0; i < 2; ++i)
        device::wgmma<kN, kConfig.half>(acc.half[m], static_cast<const uint32*>(a[i]),
                                        b + 2 * (2 * columns + i));
      ptx::wgmma_commit();
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

  /// The accumulators' columns 8 j + 2 (lane % 4) and the next, rows lane / 4 and 8 more. Two lanes
  /// swap, so that each has two neighbouring outputs of one token: stores of 4 bytes.
  template <Half kHalf>
  __device__ uint32 pair_up(float even_column, float odd_column) const {
    const bool odd = lane() / 4 % 2 == 1;
    const float other = __shfl_xor_sync(~0u, odd ? even_column : odd_column, 4);
    return odd ? device::pack_f32<kHalf>(other, odd_column)
               : device::pack_f32<kHalf>(even_column, other);
  }

  struct Bias {
    float gate, up;
  };
  static constexpr bool kPacked = kConfig.weights != Weights::half;
  __device__ float2 factors(const Tile& tile) const {
    return kPacked ? reinterpret_cast<const float2*>(args.factors)[tile.expert] : float2{1, 1};
  }
  /// Of 8 columns the one that pair_up() leaves to this lane.
  __device__ int own_column() const {
    return lane() % 4 * 2 + lane() / 4 % 2;
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
  /// Where this lane's two of 8 outputs, i's among them, of token own_column() go.
  __device__ uint16* place(const Tile& tile, int i) const {
    const int64 row = tile.row + own_column();  // tile.row is a multiple of 8
    return args.act + (static_cast<int64>(i / 64) * args.row_capacity + row) * 64 +
           (i % 64 / 8 ^ own_column()) * 8 + lane() / 8 * 2;
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
    uint16* to[2 * kParts];
#pragma unroll
    for (int p = 0; p < 2 * kParts; ++p) to[p] = place(tile, output(tile, p / kParts, p % kParts));
#pragma unroll
    for (int j = 0; j < kN / 8; ++j) {
      const int column = j * 8 + own_column();
      uint32 largest = 0;
#pragma unroll
      for (int p = 0; p < 2 * kParts; ++p) {
        const float* values = acc.half[p / kParts] + j * 4 + 2 * (p % kParts);
        const int even = j * 8 + lane() % 4 * 2;
        const uint32 two =
            pair_up<kConfig.half>(activate(values, factor, biases[p], tile, even),
                                  activate(values + 1, factor, biases[p], tile, even + 1));
        largest = ptx::max_u16x2(largest, two & 0x7fff7fffu);
        if (column < tile.rows) *reinterpret_cast<uint32*>(to[p] + j * 512) = two;
      }
      bound_row(largest, norm, tile.row + column, column < tile.rows);
    }
  }

  /// Raises the row's bound to what two of its values, as 16-bit magnitudes, make possible.
  __device__ void bound_row(uint32 largest, const RowNorm& norm, int row, bool there) const {
    largest = ptx::max_u16x2(largest, __shfl_xor_sync(~0u, largest, 8));
    largest = ptx::max_u16x2(largest, __shfl_xor_sync(~0u, largest, 16));
    if (lane() >= 8 || !there) return;
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
    // This lane's two of 8 neighbouring outputs: h and the next of 8 tokens' own_column().
    const int h = first_row(tile, 0) + lane() / 8 * 2;
    uint16* to = args.out + static_cast<int64>(tile.row + own_column()) * args.hidden + h;
#pragma unroll
    for (int j = 0; j < kN / 8; ++j, to += 8 * args.hidden) {
      const uint2 bound = ptx::load_shared_2(bounds + j * 32);  // of the accumulators' columns
      const float scale = device::row_scale(bound.x), next = device::row_scale(bound.y);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* values = acc.half[i / 2] + j * 4 + 2 * (i % 2);
        const float b = bias[i / 2][i % 2];
        const uint32 two =
            pair_up<Half::fp16>((values[0] * factor + b) * scale, (values[1] * factor + b) * next);
        const int skipped = i / 2 * 64 + i % 2 * 8;
        if (j * 8 + own_column() < tile.rows && h + skipped < args.hidden)
          *reinterpret_cast<uint32*>(to + skipped) = two;
      }
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
  const int thread = static_cast<int>(threadIdx.x);

  const uint32 data = ptx::keep((ptx::smem_u32(smem) + 1023) & ~1023u);
  const uint32 full = ptx::keep(ptx::smem_u32(barriers)), row_full = full + 16 * kConfig.stages;
  const Ring ring{data, full, full + 8 * kConfig.stages};
  const Ring rows{data + kConfig.stages * kConfig.stage_bytes(), row_full, row_full + 16};
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
    ptx::give_registers<kConfig.sums() ? 48 : 56>();
    Producer<kConfig> producer{args, ring, thread};
    if constexpr (kFc1)
      producer.gather();
    else if (thread == 0)
      producer.stream(rows);
    else if (kConfig.sums() && thread == 32)
      Clerk<kConfig>{args, progress}.run();
  } else if (thread < kProducers + kConfig.consumers()) {
    ptx::take_registers<kConfig.groups == 4 ? 104 : kConfig.sums() ? 192 : 224>();
    Consumer<kConfig> consumer{args, ring, thread - kProducers, rows, progress};
    if constexpr (kFc1 && kConfig.sum != Sum::none) consumer.clear_sums();
    consumer.run();
  } else if constexpr (kConfig.sums()) {
    ptx::give_registers<80>();
    Storer<kConfig>(args, thread - kProducers - kConfig.consumers()).run();
  }
  // No CTA leaves while its peer may still write to it.
  if constexpr (kConfig.cluster > 1) ptx::cluster_sync();
}

}  // namespace switchyard::grouped_gemm
