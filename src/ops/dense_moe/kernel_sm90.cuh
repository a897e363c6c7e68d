// Dense GEMMs of the DenseGEMM family, weights as the tensor cores' A operand.
//
//   fc1  out[t, e I + j] = silu(a g) (a u) post[t, e],  a = alpha[e]; NVFP4, or 16- or 32-bit
//   floats fc2  out[t, h] = sum over e of alpha[t, e] * (x[t, e I ..] . w[e, h, :])
//
//   grid   one or two CTAs an SM, all resident; copy warps and two or four warpgroups of consumers,
//          each with 64 rows of weights
//   smem   ring of {tokens: depth x columns x 64 bf16, weights: rows x depth x 64, alpha: columns};
//          FC1: f32 outputs of a tile
//   reads  the weights of the experts that count, once a block of tokens; limited by memory up to
//          about 64 tokens, by the tensor cores above
//   bits   a sum's order depends on the plan alone: two runs give the same bits
#pragma once

#include "device/fp4.cuh"
#include "device/grid.cuh"
#include "device/mma_sm90.cuh"
#include "device/wait.cuh"
#include "formats/nvfp4.cuh"
#include "formats/scale_layout.cuh"
#include "ops/dense_moe/schedule.cuh"

#include "device/activation.cuh"

namespace switchyard::dense_moe {

using device::Cursor;
using device::Ring;

enum Barrier : uint32 { kConsumerBar = 1 };  // 0 is __syncthreads

template <Config kConfig>
struct Stage {
  uint32 at;
  __device__ uint32 tokens() const { return at; }
  __device__ uint32 weights() const { return at + kConfig.token_bytes(); }
  __device__ uint32 alpha() const { return weights() + kConfig.weight_bytes(); }
};

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
    const uint64 policy = args.blocks == 1 ? ptx::policy_evict_first() : ptx::policy_evict_normal();
    for_each_stage([&](const Segment& s, int expert, int k, int count, Stage<kConfig> stage) {
      const int row_tile = s.wide * kConfig.row_tiles();
      const int parts = min(kConfig.row_tiles(), args.row_tiles - row_tile);
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
    const int tile_bytes = args.block_rows * (2 * Config::kDepth);
    const int own = kFc1 ? 1 : args.experts;
    for_each_stage([&](const Segment& s, int expert, int k, int count, Stage<kConfig> stage) {
      const bool last = !kFc1 && k + count == args.k_tiles;
      const int alpha_bytes = last ? args.block_rows * 4 : 0;
      ptx::mbarrier_arrive_expect(full(), count * tile_bytes + alpha_bytes);
      const int64 tile =
          (static_cast<int64>(s.block) * own + (kFc1 ? 0 : expert)) * args.k_tiles + k;
      ptx::copy_bulk(stage.tokens(), args.tiles + tile * tile_bytes, count * tile_bytes, full());
      if (last)
        ptx::copy_bulk(
            stage.alpha(),
            args.alpha + (static_cast<int64>(expert) * args.blocks + s.block) * args.block_rows,
            alpha_bytes, full());
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
  /// Of the CTA's rows, those of accumulators (0, 1) and (2, 3) of each 8 columns: this and 8 more.
  __device__ int row() const { return thread / 32 * 16 + lane() / 4; }
  __device__ void release(int stage) const {
    if (lane() == 0) ptx::mbarrier_arrive(ring.empty + 8 * stage);
  }
  __device__ Stage<kConfig> stage() const {
    return {ring.data + cursor.stage * kConfig.stage_bytes()};
  }

  /// This thread's codes and scales of a stage.
  __device__ void load(Stage<kConfig> from, uint4 (&words)[kConfig.depth],
                       Scales (&scales)[kConfig.depth]) const {
    const int own = thread % 128, half = thread / 128 % 2;
    const uint32 tile = from.weights() + thread / 256 * (kConfig.depth * Config::kTileBytes);
    const uint32 codes = tile + half * 2048 + own * 16;
    const uint32 scale = tile + device::kFp4CodeBytes +
                         device::fp4_scales_at(Weights::nvfp4, own / 32, lane() / 4, half);
#pragma unroll
    for (int part = 0; part < kConfig.depth; ++part) {  // what is not there is not used
      words[part] = ptx::load_shared_4(codes + part * Config::kTileBytes);
      scales[part] = Scales::load(scale + part * Config::kTileBytes);
    }
  }
  __device__ static void decode(const uint4& words, const Scales& scales, int columns,
                                uint32 (&a)[2][4]) {
    device::decode_fp4<Weights::nvfp4>(columns ? words.z : words.x, columns ? words.w : words.y,
                                       scales.words[columns], a);
  }

  /// acc += the products of k tile `part` of a stage, by warps.
  __device__ void multiply_by_warp(float (&acc)[kN / 2], uint32 tokens, const uint4& words,
                                   const Scales& scales) const {
#pragma unroll
    for (int columns = 0; columns < 2; ++columns) {  // 32 of them
      uint32 a[2][4];
      decode(words, scales, columns, a);
      const uint32 chunk = (columns * 4 + lane() / 8 ^ lane() % 8) << 4;
#pragma unroll
      for (int j = 0; j < kN / 8; ++j) {
        const uint4 b = ptx::load_matrices(tokens + lane() % 8 * 128 + j * 1024 + chunk);
        ptx::mma<Half::bf16>(acc + 4 * j, a[0], b.x, b.y);
        ptx::mma<Half::bf16>(acc + 4 * j, a[1], b.z, b.w);
      }
    }
  }

  /// The same by warpgroups, under way on return but for the last but one product.
  __device__ void multiply_by_group(float (&acc)[kN / 2], uint64 tokens, const uint4& words,
                                    const Scales& scales) const {
#pragma unroll
    for (int columns = 0; columns < 2; ++columns) {
      uint32 a[2][4];
      decode(words, scales, columns, a);
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
  __device__ void multiply_stage(float (&acc)[kN / 2], int tiles, int previous) const {
    uint4 words[kConfig.depth];
    Scales scales[kConfig.depth];
    load(stage(), words, scales);
    const uint32 tokens = stage().tokens();
    const int tile_bytes = args.block_rows * 128;
    const auto part = [&](int i) {
      if constexpr (kConfig.wide) {
        multiply_by_group(acc, device::operand(tokens + i * tile_bytes), words[i], scales[i]);
        // The products of the stage before are done.
        if (i == 0 && previous >= 0) release(previous);
      } else {
        multiply_by_warp(acc, tokens + i * tile_bytes, words[i], scales[i]);
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

  /// acc = a unit's sum. The last stage is still there on return.
  __device__ void multiply(float (&acc)[kN / 2]) {
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) acc[i] = 0;
    int previous = -1;
#pragma unroll 1
    for (int k = 0; k < args.k_tiles; k += kConfig.depth) {
      if (!kConfig.wide && previous >= 0) release(previous);
      ring.wait(ring.full + 8 * cursor.stage, cursor.phase);
      multiply_stage(acc, min(kConfig.depth, args.k_tiles - k), previous);
      previous = cursor.stage;
      cursor.advance();
    }
    if constexpr (kConfig.wide) {
      ptx::wgmma_wait<0>();
      ptx::pin(acc);
    }
  }
  __device__ int last_stage() const {
    return cursor.stage == 0 ? kConfig.stages - 1 : cursor.stage - 1;
  }

  /// sum += alpha times the next unit's sum.
  __device__ void add_expert(float (&sum)[kN / 2]) {
    float acc[kN / 2];
    multiply(acc);
    const int last = last_stage();
    const uint32 alpha =
        Stage<kConfig>{ring.data + last * kConfig.stage_bytes()}.alpha() + lane() % 4 * 8;
#pragma unroll
    for (int j = 0; j < kN / 8; ++j) {
      const uint2 two = ptx::load_shared_2(alpha + j * 32);
      const float even = bits_as<float>(two.x), odd = bits_as<float>(two.y);
      sum[4 * j] += even * acc[4 * j], sum[4 * j + 1] += odd * acc[4 * j + 1];
      sum[4 * j + 2] += even * acc[4 * j + 2], sum[4 * j + 3] += odd * acc[4 * j + 3];
    }
    release(last);
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
  __device__ void add_others(float (&sum)[kN / 2], int first, int last) const {
    if (first > last) return;
    for (int other = first + thread; other <= last; other += kConsumers)
      device::take_mark(args.marks + other);
    ptx::bar_sync(kConsumerBar, kConsumers);
#pragma unroll 1
    for (int other = first; other <= last; ++other) {
      const float4* from = slot(other);
#pragma unroll
      for (int i = 0; i < kN / 8; ++i) {
        const float4 part = __ldcg(from + i * kConsumers);
        sum[4 * i] += part.x, sum[4 * i + 1] += part.y;
        sum[4 * i + 2] += part.z, sum[4 * i + 3] += part.w;
      }
    }
  }

  // --- FC2's output ------------------------------------------------------------------------------

  __device__ int rows_of(const Segment& s) const {
    return min(args.block_rows, args.tokens - s.block * args.block_rows);
  }

  /// The accumulators' columns 8 j + 2 (lane % 4) and the next, rows lane / 4 and 8 more. Two lanes
  /// swap, so that each has two neighbouring outputs of one token.
  __device__ void store_sums(const Segment& s, const float (&sum)[kN / 2]) const {
    const int rows = rows_of(s);
    const bool odd = lane() / 4 % 2 == 1;
    const int h = s.wide * (kConfig.row_tiles() * 128) + thread / 32 * 16 + lane() / 8 * 2;
#pragma unroll
    for (int j = 0; j < kN / 8; ++j)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float first = sum[4 * j + 2 * half], second = sum[4 * j + 2 * half + 1];
        const float other = __shfl_xor_sync(~0u, odd ? first : second, 4);
        const int token = j * 8 + lane() % 4 * 2 + odd;
        if (token >= rows || h + half * 8 >= args.outputs) continue;
        store_pair(
            (static_cast<int64>(s.block) * args.block_rows + token) * args.outputs + h + half * 8,
            odd ? other : first, odd ? second : other);
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

  __device__ void fc2() {
    Schedule<kConfig> schedule(args);
    for (Segment s; schedule.take(s);) {
      float sum[kN / 2];
#pragma unroll
      for (int i = 0; i < kN / 2; ++i) sum[i] = 0;
      for (int unit = s.begin; unit < s.end; ++unit) add_expert(sum);
      if (s.finishes) {
        add_others(sum, s.slot + 1, s.last_slot);
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
      const int64 first = static_cast<int64>(s.block) * args.block_rows;
      const float alpha = args.alpha[s.expert] * device::kFp4Factor;
      float acc[kN / 2];
      multiply(acc);
      release(last_stage());
      // A warp's 16 rows are 8 gates and their 8 ups.
      float* to = act + thread / 32 * 8 + lane() / 4;
#pragma unroll
      for (int j = 0; j < kN / 8; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const int token = j * 8 + lane() % 4 * 2 + c;
          if (token >= rows) continue;
          float y = device::activate<device::ActivationCode::swiglu, device::FastMath>(
              alpha * acc[4 * j + c], alpha * acc[4 * j + 2 + c], {});
          if constexpr (kConfig.post) y *= args.post[(first + token) * args.experts + s.expert];
          to[token * kConfig.act_stride()] = y;
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
      ptx::mbarrier_init(ring.empty + 8 * i, kConfig.consumers() / 32);
    }
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  ptx::launch_dependents();
  if (thread < kConfig.copiers()) {
    if constexpr (kConfig.wide) ptx::give_registers<kConfig.groups == 4 ? 32 : 40>();
    if (thread == 0) {
      if (args.experts_listed) ptx::wait_previous_kernel();
      Copier<kConfig>{args, ring}.weights();
    } else if (thread == 32) {
      ptx::wait_previous_kernel();
      Copier<kConfig>{args, ring}.tokens();
    }
  } else {
    if constexpr (kConfig.wide) ptx::take_registers<kConfig.groups == 4 ? 112 : 232>();
    ptx::wait_previous_kernel();
    Consumer<kConfig> consumer{
        args, ring, reinterpret_cast<float*>(data + kConfig.stages * kConfig.stage_bytes()),
        thread - kConfig.copiers()};
    if constexpr (kConfig.phase == Phase::fc1)
      consumer.fc1();
    else
      consumer.fc2();
  }
}

}  // namespace switchyard::dense_moe
