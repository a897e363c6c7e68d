// Dense GEMMs of the DenseGEMM family.
//
//   fc1  out[t, e I + j] = silu(a g) (a u) post[t, e],  a = alpha[e]; NVFP4, or 16- or 32-bit
//   floats fc2  out[t, h] = sum over e of alpha[t, e] * (x[t, e I ..] . w[e, h, :])
//
//   grid   one or two CTAs an SM, all resident, in clusters of 1 or 2 that share tokens; copy warps
//          and two or four warpgroups of consumers, each with 64 rows of weights
//   smem   ring of {tokens: depth x columns x 64 bf16, weights: rows x depth x 64, steps: columns};
//          FC1: f32 outputs of a tile
//   reads  the weights of the experts that count, once a block of tokens; limited by memory up to
//          about 64 tokens, by the tensor cores above
//   bits   a sum's order depends on the plan alone: two runs give the same bits
//
// Longer than other files: both phases' ends, and the sums of several CTAs, have the accumulators'
// layout in common.
#pragma once

#include "device/activation.cuh"
#include "device/fp4.cuh"
#include "device/grid.cuh"
#include "device/mma_sm90.cuh"
#include "device/wait.cuh"
#include "formats/nvfp4.cuh"
#include "formats/scale_layout.cuh"
#include "ops/dense_moe/decode.cuh"
#include "ops/dense_moe/schedule.cuh"

namespace switchyard::dense_moe {

using device::Cursor;
using device::Ring;

enum Barrier : uint32 { kConsumerBar = 1 };  // 0 is __syncthreads

template <Config kConfig>
struct Stage {
  uint32 at;
  __device__ uint32 tokens() const { return at; }
  __device__ uint32 weights() const { return at + kConfig.token_bytes(); }
  __device__ uint32 steps() const { return weights() + kConfig.weight_bytes(); }
};

/// Where the numbers of an expert's block of tokens begin in Args::steps and rests.
__device__ inline int64 place_of(const Args& args, int expert, int block) {
  return (static_cast<int64>(expert) * args.x.blocks + block) * args.x.block_rows;
}

/// What fills the ring: two threads, of which one brings the weights, which wait for nobody.
template <Config kConfig>
struct Copier {
  const Args& args;
  const Ring& ring;
  Cursor<kConfig.stages> cursor = {};
  Schedule<kConfig> schedule{args};

  static constexpr bool kFc1 = kConfig.phase == Phase::fc1;

  /// Calls f(segment, expert, k, k tiles, stage) for every stage, after it is free.
  template <class F>
  __device__ void for_each_stage(const F& f) {
    for (Segment s; schedule.take(s);)
      for (int unit = s.begin; unit < s.end; ++unit) {
        const int expert = kFc1 ? s.expert : schedule.listed(unit);
#pragma unroll 1
        for (int k = 0; k < args.k_tiles; k += kConfig.depth) {
          ring.wait(ring.empty + 8 * cursor.stage, cursor.phase ^ 1);
          f(s, expert, k, min(kConfig.depth, args.k_tiles - k),
            Stage<kConfig>{ring.data + cursor.stage * kConfig.stage_bytes()});
          cursor.advance();
        }
      }
  }
  __device__ uint32 full() const {
    return ring.full + 8 * cursor.stage;
  }

  __device__ void weights() {
    // Blocks of the same weights read them from L2.
    const uint64 policy =
        args.x.blocks == 1 ? ptx::policy_evict_first() : ptx::policy_evict_normal();
    for_each_stage([&](const Segment& s, int expert, int k, int count, Stage<kConfig> stage) {
      const int row_tile = s.wide * kConfig.row_tiles();
      const int parts = max(0, min(kConfig.row_tiles(), args.row_tiles - row_tile));
      const int bytes = count * Config::kTileBytes;
      ptx::mbarrier_arrive_expect(full(), parts * bytes);
      const int64 tile =
          (static_cast<int64>(expert) * args.row_tiles + row_tile) * args.k_tiles + k;
      for (int part = 0; part < parts; ++part)
        ptx::copy_bulk_streaming(
            stage.weights() + part * (kConfig.depth * Config::kTileBytes),
            args.weights + (tile + static_cast<int64>(part) * args.k_tiles) * Config::kTileBytes,
            bytes, full(), policy);
    });
  }

  __device__ void tokens() {
    const int tile_bytes = args.x.block_rows * (2 * Config::kDepth);
    const uint64 policy = ptx::policy_evict_normal();
    for_each_stage([&](const Segment& s, int expert, int k, int count, Stage<kConfig> stage) {
      const int step_bytes = !kFc1 && k == 0 ? args.x.block_rows * 4 : 0;
      ptx::mbarrier_arrive_expect(full(), count * tile_bytes + step_bytes);
      const int64 tile = (kFc1 ? static_cast<int64>(s.block)
                               : static_cast<int64>(s.block) * args.experts + expert) *
                             args.k_tiles +
                         k;
      const uint8* from = args.x.tiles + tile * tile_bytes;
      if constexpr (kConfig.cluster == 1) {
        ptx::copy_bulk(stage.tokens(), from, count * tile_bytes, full());
      } else {  // half of them for both CTAs
        const int half = count * tile_bytes / 2, at = schedule.rank() * half;
        ptx::copy_bulk_multicast(stage.tokens() + at, from + at, half, full(), 3, policy);
      }
      if (step_bytes)
        ptx::copy_bulk(stage.steps(), args.x.steps + place_of(args, expert, s.block), step_bytes,
                       full());
    });
  }
};

template <Config kConfig>
struct Consumer {
  const Args& args;
  const Ring& ring;
  float* act;  // FC1: [columns, act_stride()]
  int thread;
  Cursor<kConfig.stages> cursor = {};

  static constexpr int kN = kConfig.columns;
  static constexpr int kConsumers = kConfig.consumers();
  static constexpr bool kFc1 = kConfig.phase == Phase::fc1;
  using Scales = device::Fp4Scales<Weights::nvfp4>;

  __device__ int lane() const { return thread % 32; }
  /// Which token of the block, and which row of the warp's 16, an accumulator is.
  __device__ int token_of(int i) const {
    return kConfig.swap ? i / 4 * 8 + lane() % 4 * 2 + i % 2
                        : i / 8 * 16 + lane() / 4 + i % 4 / 2 * 8;
  }
  __device__ int row_of(int i) const {
    return kConfig.swap ? lane() / 4 + i % 4 / 2 * 8 : lane() % 4 * 2 + i % 2 + i / 4 % 2 * 8;
  }
  __device__ void release(int stage) const {
    __syncwarp();  // one lane speaks for all
    if (lane() >= kConfig.cluster) return;
    const uint32 barrier = ring.empty + 8 * stage;
    if constexpr (kConfig.cluster == 1)
      ptx::mbarrier_arrive(barrier);
    else
      ptx::mbarrier_arrive_peer(barrier, lane());
  }
  __device__ Stage<kConfig> stage() const {
    return {ring.data + cursor.stage * kConfig.stage_bytes()};
  }

  /// This thread's codes and scales of k tile `part` of a stage.
  struct Packed {
    uint4 words;
    Scales scales;
  };
  __device__ Packed load(Stage<kConfig> from, int part) const {
    const int own = thread % 128, half = thread / 128 % 2;
    const uint32 tile = from.weights() + (thread / 256 * kConfig.depth + part) * Config::kTileBytes;
    return {ptx::load_shared_4(tile + half * 2048 + own * 16),
            Scales::load(tile + device::kFp4CodeBytes +
                         device::fp4_scales_at(Weights::nvfp4, own / 32, lane() / 4, half))};
  }
  __device__ static void decode(const Packed& from, int columns, uint32 (&a)[2][4]) {
    device::decode_fp4<Weights::nvfp4>(columns ? from.words.z : from.words.x,
                                       columns ? from.words.w : from.words.y,
                                       from.scales.words[columns], a);
  }

  /// acc += the products of a k tile, by warps.
  __device__ void multiply_by_warp(float (&acc)[kN / 2], uint32 tokens,
                                   const Packed& weights) const {
#pragma unroll
    for (int columns = 0; columns < 2; ++columns) {  // 32 of them
      uint32 a[2][4];
      decode(weights, columns, a);
      if constexpr (kConfig.swap) {
        const uint32 chunk = (columns * 4 + lane() / 8 ^ lane() % 8) << 4;
#pragma unroll
        for (int j = 0; j < kN / 8; ++j) {
          const uint4 b = ptx::load_matrices(tokens + lane() % 8 * 128 + j * 1024 + chunk);
          ptx::mma<Half::bf16>(acc + 4 * j, a[0], b.x, b.y);
          ptx::mma<Half::bf16>(acc + 4 * j, a[1], b.z, b.w);
        }
      } else {
        // The registers of 16 x 16 weights as A are those of two times 8 rows as B.
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const uint32 chunk = (columns * 4 + i * 2 + lane() / 16 ^ lane() % 8) << 4;
#pragma unroll
          for (int j = 0; j < kN / 16; ++j) {
            const uint4 t = ptx::load_matrices(tokens + lane() % 16 * 128 + j * 2048 + chunk);
            const uint32 token[4] = {t.x, t.y, t.z, t.w};
            ptx::mma<Half::bf16>(acc + 8 * j, token, a[i][0], a[i][2]);
            ptx::mma<Half::bf16>(acc + 8 * j + 4, token, a[i][1], a[i][3]);
          }
        }
      }
    }
  }

  /// The same by warpgroups, under way on return but for the last but one product.
  __device__ void multiply_by_group(float (&acc)[kN / 2], uint64 tokens,
                                    const Packed& weights) const {
#pragma unroll
    for (int columns = 0; columns < 2; ++columns) {
      uint32 a[2][4];
      decode(weights, columns, a);
      ptx::wgmma_fence();
#pragma unroll
      for (int i = 0; i < 2; ++i)
        device::wgmma<kN, Half::bf16>(acc, static_cast<const uint32*>(a[i]),
                                      tokens + 2 * (2 * columns + i));
      ptx::wgmma_commit();
      ptx::wgmma_wait<1>();
    }
  }

  /// acc += the products of the next stage, whose k tiles are `tiles`; Config::depth of them
  /// without a branch. The stage is still needed on return.
  __device__ void multiply_stage(float (&acc)[kN / 2], int tiles, bool first) const {
    // All at once, unless there are too few registers: what is not there is not used.
    constexpr int kMost = !kConfig.wide || kConfig.groups < 4 || kN <= 32 ? 4 : kN <= 96 ? 2 : 1;
    constexpr int kAhead = kConfig.depth < kMost ? kConfig.depth : kMost;
    Packed weights[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) weights[i] = load(stage(), i);
    const uint32 tokens = stage().tokens();
    const int tile_bytes = args.x.block_rows * 128;
    const auto part = [&](int i) {
      if (i >= kAhead) weights[i % kAhead] = load(stage(), i);
      if constexpr (kConfig.wide) {
        multiply_by_group(acc, device::operand(tokens + i * tile_bytes), weights[i % kAhead]);
        // The products of the stage before are done.
        if (i == 0 && !first) release(stage_before());
      } else {
        multiply_by_warp(acc, tokens + i * tile_bytes, weights[i % kAhead]);
      }
    };
    if (tiles == kConfig.depth) {
#pragma unroll
      for (int i = 0; i < kConfig.depth; ++i) part(i);
    } else {
#pragma unroll
      for (int i = 0; i + 1 < kConfig.depth; ++i)
        if (i < tiles) part(i);
    }
  }

  __device__ void wait_for_stage() const {
    ring.wait(ring.full + 8 * cursor.stage, cursor.phase);
  }
  /// acc += a unit's sum, after a multiplication if the unit has steps. Complete on return.
  __device__ void add_unit(float (&acc)[kN / 2]) {
    wait_for_stage();
    if constexpr (!kFc1) step(acc);
    for (int k = 0;;) {
      multiply_stage(acc, min(kConfig.depth, args.k_tiles - k), k == 0);
      cursor.advance();
      if constexpr (!kConfig.wide) release(stage_before());
      if ((k += kConfig.depth) >= args.k_tiles) break;
      wait_for_stage();
    }
    if constexpr (kConfig.wide) {
      ptx::wgmma_wait<0>();
      ptx::pin(acc);
      release(stage_before());
    }
  }
  __device__ int stage_before() const {
    return cursor.stage == 0 ? kConfig.stages - 1 : cursor.stage - 1;
  }

  /// acc *= the next stage's steps.
  __device__ void step(float (&acc)[kN / 2]) const {
    const uint32 steps = stage().steps();
#pragma unroll
    for (int i = 0; i < kN / 2; i += 4) {
      if constexpr (kConfig.swap) {
        const uint2 two = ptx::load_shared_2(steps + token_of(i) * 4);
        acc[i] *= bits_as<float>(two.x), acc[i + 1] *= bits_as<float>(two.y);
        acc[i + 2] *= bits_as<float>(two.x), acc[i + 3] *= bits_as<float>(two.y);
      } else {
        const float low = bits_as<float>(ptx::load_shared(steps + token_of(i) * 4)),
                    high = bits_as<float>(ptx::load_shared(steps + token_of(i + 2) * 4));
        acc[i] *= low, acc[i + 1] *= low, acc[i + 2] *= high, acc[i + 3] *= high;
      }
    }
  }

  // --- sums of several CTAs ----------------------------------------------------------------------

  __device__ float4* slot(int number) const {
    return reinterpret_cast<float4*>(args.partial) +
           static_cast<int64>(number) * (kConsumers * kN / 8) + thread;
  }
  __device__ void hand_over(const float (&sum)[kN / 2], int number) const {
#pragma unroll
    for (int i = 0; i < kN / 8; ++i)
      slot(number)[i * kConsumers] = {sum[4 * i], sum[4 * i + 1], sum[4 * i + 2], sum[4 * i + 3]};
    ptx::bar_sync(kConsumerBar, kConsumers);
    if (thread == 0) device::set_mark(args.marks + number);
  }
  __device__ void add_others(float (&sum)[kN / 2], const Segment& s) const {
    if (s.others == 0) return;
    for (int i = 1 + thread; i <= s.others; i += kConsumers)
      device::take_mark(args.marks + s.slot + i * kConfig.cluster);
    ptx::bar_sync(kConsumerBar, kConsumers);
    constexpr int kAtOnce = kN <= 8 ? 4 : 1;  // memory answers late
#pragma unroll 1
    for (int first = 1; first <= s.others; first += kAtOnce) {
      float4 parts[kAtOnce][kN / 8];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j)
#pragma unroll
        for (int i = 0; i < kN / 8; ++i)
          if (first + j <= s.others)
            parts[j][i] = __ldcg(slot(s.slot + (first + j) * kConfig.cluster) + i * kConsumers);
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j)
#pragma unroll
        for (int i = 0; i < kN / 8; ++i) {
          if (first + j > s.others) continue;
          const float4 part = parts[j][i];
          sum[4 * i] += part.x, sum[4 * i + 1] += part.y;
          sum[4 * i + 2] += part.z, sum[4 * i + 3] += part.w;
        }
    }
  }

  // --- FC2's output ------------------------------------------------------------------------------

  __device__ int rows_of(const Segment& s) const {
    return min(args.x.block_rows, args.tokens - s.block * args.x.block_rows);
  }

  __device__ void store_sums(const Segment& s, const float (&sum)[kN / 2]) const {
    const int rows = rows_of(s);
    const int first = s.wide * (kConfig.row_tiles() * 128) + thread / 32 * 16;
#pragma unroll
    for (int i = 0; i < kN / 2; i += 2) {
      float low = sum[i], high = sum[i + 1];
      int token = token_of(i), h = first + row_of(i);
      if constexpr (kConfig.swap) {
        // Two lanes swap, so that each has two neighbouring outputs of one token.
        const bool odd = lane() / 4 % 2 == 1;
        const float other = __shfl_xor_sync(~0u, odd ? low : high, 4);
        (odd ? low : high) = other;
        token += odd, h -= odd;
      }
      if (token >= rows || h >= args.outputs) continue;
      store_pair((static_cast<int64>(s.block) * args.x.block_rows + token) * args.outputs + h, low,
                 high);
    }
  }
  /// Of an even number of outputs.
  __device__ void store_pair(int64 at, float low, float high) const {
    if constexpr (kConfig.out == Out::f32)
      *reinterpret_cast<float2*>(static_cast<float*>(args.out) + at) = {low, high};
    else
      *reinterpret_cast<uint32*>(static_cast<uint16*>(args.out) + at) =
          device::pack_f32 < kConfig.out == Out::fp16 ? Half::fp16 : Half::bf16 > (low, high);
  }

  /// acc *= what is left of a unit's alpha.
  __device__ void scale(float (&acc)[kN / 2], const Segment& s, int expert) const {
    const float* rests = args.x.rests + place_of(args, expert, s.block);
#pragma unroll
    for (int i = 0; i < kN / 2; ++i)
      acc[i] *= token_of(i) < args.x.block_rows ? __ldcg(rests + token_of(i)) : 0;
  }

  __device__ void fc2() {
    Schedule<kConfig> schedule(args);
    for (Segment s; schedule.take(s);) {
      float sum[kN / 2];
#pragma unroll
      for (int i = 0; i < kN / 2; ++i) sum[i] = 0;
      for (int unit = s.begin; unit < s.end; ++unit) add_unit(sum);
      if (s.begin < s.end) scale(sum, s, schedule.listed(s.end - 1));
      if (s.finishes) {
        add_others(sum, s);
        store_sums(s, sum);
      } else {
        hand_over(sum, s.slot);
      }
    }
  }

  // --- FC1's output ------------------------------------------------------------------------------

  /// 16 outputs of token `token`, j and on, from shared memory.
  __device__ void store_block(int64 token, int expert, int j, const float* from) const {
    float y[16];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float4 four = *reinterpret_cast<const float4*>(from + 4 * i);
      y[4 * i] = four.x, y[4 * i + 1] = four.y, y[4 * i + 2] = four.z, y[4 * i + 3] = four.w;
    }
    const int64 width = static_cast<int64>(args.experts) * args.outputs;
    const int64 column = static_cast<int64>(expert) * args.outputs + j;
    const int64 at = token * width + column;
    if constexpr (kConfig.out == Out::fp4) {
      float largest = 0;
#pragma unroll
      for (const float v : y) largest = fmaxf(largest, fabsf(v));
      const formats::Nvfp4Scale scale = formats::nvfp4_scale_epilogue(largest, args.norm_const);
      uint32 codes[2] = {};
#pragma unroll
      for (int i = 0; i < 16; ++i)
        codes[i / 8] |= static_cast<uint32>(formats::encode_e2m1(y[i] * scale.multiplier))
                        << 4 * (i % 8);
      *reinterpret_cast<uint2*>(static_cast<uint8*>(args.out) + at / 2) = {codes[0], codes[1]};
      args.out_scales[formats::offset_128x4(token, column / 16, width / 16)] = scale.code;
    } else {
#pragma unroll
      for (int i = 0; i < 16; i += 2) store_pair(at + i, y[i], y[i + 1]);
    }
  }

  __device__ void fc1() {
    Schedule<kConfig> schedule(args);
    for (Segment s; schedule.take(s);) {
      const int rows = rows_of(s);
      const int64 first = static_cast<int64>(s.block) * args.x.block_rows;
      const float* alpha = args.alpha + s.expert * args.alpha_parts;
      const float gate = alpha[0] * args.alpha_factor,
                  up = alpha[args.alpha_parts - 1] * args.alpha_factor;
      float acc[kN / 2];
#pragma unroll
      for (int i = 0; i < kN / 2; ++i) acc[i] = 0;
      add_unit(acc);
      // A warp's 16 rows are 8 gates and their 8 ups.
#pragma unroll
      for (int i = 0; i < kN / 2; ++i) {
        if (row_of(i) >= 8) continue;
        const int token = token_of(i);
        if (token >= rows) continue;
        float y = device::activate<device::ActivationCode::swiglu, device::FastMath>(
            gate * acc[i], up * acc[i + (kConfig.swap ? 2 : 4)], {});
        if constexpr (kConfig.post) y *= args.post[(first + token) * args.experts + s.expert];
        act[token * kConfig.act_stride() + thread / 32 * 8 + row_of(i)] = y;
      }
      ptx::bar_sync(kConsumerBar, kConsumers);
      constexpr int kBlocks = kConfig.act_rows() / 16;
      const int start = s.wide * kConfig.act_rows();
      for (int i = thread; i < rows * kBlocks; i += kConsumers) {
        const int token = i / kBlocks, j = i % kBlocks * 16;
        if (start + j < args.outputs)
          store_block(first + token, s.expert, start + j, act + token * kConfig.act_stride() + j);
      }
      ptx::bar_sync(kConsumerBar, kConsumers);
    }
  }
};

template <Config kConfig>
__global__ void __launch_bounds__(kConfig.threads(), kConfig.ctas)
    kernel(const __grid_constant__ Args args) {
  extern __shared__ uint8 smem[];
  __shared__ uint64 barriers[2 * kConfig.stages];
  const int thread = static_cast<int>(threadIdx.x);
  const uint32 full = ptx::keep(ptx::smem_u32(barriers));
  const Ring ring{ptx::keep((ptx::smem_u32(smem) + 1023) & ~1023u), full,
                  full + 8 * kConfig.stages};
  uint8* data = smem + (ring.data - ptx::smem_u32(smem));
  if (thread == 0) {
    for (int i = 0; i < kConfig.stages; ++i) {
      ptx::mbarrier_init(ring.full + 8 * i, 2);
      ptx::mbarrier_init(ring.empty + 8 * i, kConfig.cluster * kConfig.consumers() / 32);
    }
    ptx::fence_mbarrier_init();
  }
  if constexpr (kConfig.cluster == 1)
    __syncthreads();
  else
    ptx::cluster_sync();
  ptx::launch_dependents();
  const device::GridBarrier grid{args.barrier};
  if (thread < kConfig.copiers()) {
    if constexpr (kConfig.wide) ptx::give_registers<kConfig.copier_registers()>();
    if (thread == 0) {
      if (args.experts_listed) ptx::wait_previous_kernel();
      Copier<kConfig>{args, ring}.weights();
    } else if (thread == 32) {
      ptx::wait_previous_kernel();
      grid.prepare();  // no barrier of the CTA says that its other thread has
      grid.wait();
      grid.pass();
      ptx::fence_proxy_async_global();
      Copier<kConfig>{args, ring}.tokens();
    }
  } else {
    if constexpr (kConfig.wide) ptx::take_registers<kConfig.consumer_registers()>();
    const int own = thread - kConfig.copiers();
    ptx::wait_previous_kernel();
    if (own == 0) grid.prepare();
    decode<kConfig.columns >= 64 ? 4 : 1>(args.x, blockIdx.x * kConfig.consumers() + own,
                                          gridDim.x * kConfig.consumers());
    ptx::bar_sync(kConsumerBar, kConfig.consumers());
    if (own == 0) grid.arrive();
    Consumer<kConfig> consumer{
        args, ring, reinterpret_cast<float*>(data + kConfig.stages * kConfig.stage_bytes()), own};
    if constexpr (kConfig.phase == Phase::fc1)
      consumer.fc1();
    else
      consumer.fc2();
  }
  // No CTA leaves while its peer may still write to it.
  if constexpr (kConfig.cluster > 1) ptx::cluster_sync();
}

}  // namespace switchyard::dense_moe
