// The layer for small batches in one launch: out[t, :] = sum over experts e of
//   w[t, e] * down[e] . act(gate_up[e] . x[t])
//
//   grid   one CTA an SM, all resident; 384 threads: copy warps and two consumer warpgroups
//   smem   ring of {128 x 64 weight tile, block x 64 token tile}; f32 sums [tokens, 128] of phase 2
//   work   phase 1 walks (block, row tile, k), phase 2 (row tile, block, k): each CTA takes an
//   equal
//          share of the k steps, wherever tile edges fall, so every SM reads the same number of
//          bytes. A tile cut between CTAs is finished by the one that has its first step; the
//          others hand over f32 partial sums, added in CTA order
//   reads  the weights of every expert that has tokens, once; limited by memory
//   bits   the order of sums depends on the blocks alone: two runs give the same bits
//
// Weights are the A operand (64 rows a wgmma), the tokens of one block the B operand (8..64
// columns). In phase 2 one CTA keeps its output rows over all experts: no atomics, no finalize.
#pragma once

#include "device/mma_sm90.cuh"
#include "device/wait.cuh"
#include "ops/fused_moe/shared.cuh"

namespace switchyard::fused_moe {

constexpr int kConsumers = 256;
constexpr int kLoaders = 64;

/// A run of k steps inside one tile.
struct Segment {
  int tile, k_begin, k_end;
};

/// This CTA's share [next, end) of `tiles` x `depth` steps, cut into segments. Of G CTAs the first
/// min(G, steps) have one.
struct Share {
  int64 steps, next, end;
  int depth, workers;

  __device__ Share(int tiles, int depth_)
      : steps(static_cast<int64>(tiles) * depth_), depth(depth_) {
    workers = static_cast<int>(min(steps, static_cast<int64>(gridDim.x)));
    const int cta = min(static_cast<int>(blockIdx.x), workers);
    next = workers ? steps * cta / workers : 0;
    end = cta < workers ? steps * (cta + 1) / workers : next;
  }
  /// One past the last CTA that has steps of `tile`.
  __device__ int last_worker(int tile) const {
    const int64 tile_end = static_cast<int64>(tile + 1) * depth;
    return static_cast<int>((tile_end * workers + steps - 1) / steps);
  }
  __device__ bool take(Segment& segment) {
    if (next >= end) return false;
    segment.tile = static_cast<int>(next / depth);
    segment.k_begin = static_cast<int>(next % depth);
    const int64 left = end - next;
    segment.k_end =
        static_cast<int>(left < depth - segment.k_begin ? segment.k_begin + left : depth);
    next += segment.k_end - segment.k_begin;
    return true;
  }
};

using device::Cursor;
using device::Ring;

/// Streams the weight tiles of both phases; one thread. Phase 2's tiles follow without a pause:
/// they wait for nobody.
template <Config kConfig>
__device__ void copy_weights(const Args& args, const Ring& ring, const uint32* block, int count) {
  Cursor<kConfig.stages> cursor;
  const uint64 policy = ptx::policy_evict_first();
  const auto copy = [&](const uint8* base, int64 tile) {
    const uint32 full = ring.full + 8 * cursor.stage;
    ring.wait(ring.empty + 8 * cursor.stage, cursor.phase ^ 1);
    ptx::mbarrier_arrive_expect(full, Config::kWeightBytes);
    ptx::copy_bulk_streaming(ring.data + cursor.stage * kConfig.stage_bytes(),
                             base + tile * Config::kWeightBytes, Config::kWeightBytes, full,
                             policy);
    cursor.advance();
  };
  Segment s;
  for (Share share(count * args.row_tiles1, args.k_tiles1); share.take(s);) {
    const int64 tile =
        static_cast<int64>(block_expert(block[s.tile / args.row_tiles1])) * args.row_tiles1 +
        s.tile % args.row_tiles1;
    for (int k = s.k_begin; k < s.k_end; ++k) copy(args.gate_up, tile * args.k_tiles1 + k);
  }
  for (Share share(args.row_tiles2, count * args.k_tiles2); share.take(s);) {
    int a = s.k_begin / args.k_tiles2, k = s.k_begin % args.k_tiles2;
    for (int step = s.k_begin; step < s.k_end; ++step) {
      copy(args.down,
           (static_cast<int64>(block_expert(block[a])) * args.row_tiles2 + s.tile) * args.k_tiles2 +
               k);
      if (++k == args.k_tiles2) k = 0, ++a;
    }
  }
}

/// Gathers the token tiles of both phases; kLoaders threads, 16 bytes each a copy.
template <Config kConfig>
struct TokenLoader {
  static constexpr int kRows = kConfig.block / 8;  // rows a thread serves: thread / 8 + 8 i
  const Args& args;
  const Ring& ring;
  const uint32* block;  // [B]
  Cursor<kConfig.stages> cursor;
  int thread;

  /// `steps` tiles of 64 columns from `column`; columns beyond `width` are zeros. Rows that are
  /// null keep what is there: nothing reads their results.
  __device__ void load(const uint16* const (&row)[kRows], int column, int width, int steps) {
    const int chunk = thread % 8;
    const uint32 offset = Config::kWeightBytes + (thread / 8) * 128 + ((chunk ^ (thread / 8)) << 4);
    for (column += chunk * 8; steps > 0; --steps, column += Config::kDepth) {
      const uint32 to = ring.data + cursor.stage * kConfig.stage_bytes() + offset;
      ring.wait(ring.empty + 8 * cursor.stage, cursor.phase ^ 1);
#pragma unroll
      for (int i = 0; i < kRows; ++i)
        if (row[i])
          ptx::copy_16(to + i * 1024, row[i] + (column < width ? column : 0),
                       column < width ? 16 : 0);
      ptx::mbarrier_arrive_copies(ring.full + 8 * cursor.stage);
      cursor.advance();
    }
  }

  __device__ void phase1(int count) {
    Segment s;
    for (Share share(count * args.row_tiles1, args.k_tiles1); share.take(s);) {
      const int b = s.tile / args.row_tiles1;
      const uint16* row[kRows];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const int r = thread / 8 + 8 * i;
        row[i] =
            r < block_rows(block[b])
                ? args.tokens + static_cast<int64>(args.lists.row_token[block_row(block[b]) + r]) *
                                    args.hidden
                : nullptr;
      }
      load(row, s.k_begin * Config::kDepth, args.hidden, s.k_end - s.k_begin);
    }
  }

  __device__ void phase2(int count) {
    const int width = args.row_tiles1 * kConfig.act_rows();
    Segment s;
    for (Share share(args.row_tiles2, count * args.k_tiles2); share.take(s);) {
      for (int step = s.k_begin; step < s.k_end;) {
        const int b = step / args.k_tiles2, k = step % args.k_tiles2;
        const int steps = min(args.k_tiles2 - k, s.k_end - step);
        const uint16* row[kRows];
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          const int r = thread / 8 + 8 * i;
          row[i] = r < block_rows(block[b])
                       ? args.act + static_cast<int64>(block_row(block[b]) + r) * width
                       : nullptr;
        }
        load(row, k * Config::kDepth, width, steps);
        step += steps;
      }
    }
  }
};

template <Config kConfig>
struct Consumer {
  const Args& args;
  const Ring& ring;
  const uint32* block;  // [B]
  float* sums;          // [tokens, kSumStride], each row of a tile touched by one warp only
  Cursor<kConfig.stages> cursor;
  int thread;  // 0..255
  int tokens;  // T

  static constexpr int kN = kConfig.block;
  static constexpr bool kGated = device::is_gated(kConfig.activation);

  __device__ int lane() const { return thread % 32; }
  /// Of a tile, the rows of accumulators (0, 1) and (2, 3) of each 8 columns: this and 8 more.
  __device__ int tile_row() const { return thread / 32 * 16 + lane() / 4; }

  __device__ void release(int stage) const {
    if (lane() == 0) ptx::mbarrier_arrive(ring.empty + 8 * stage);
  }

  /// acc [64 rows of this warpgroup, block] = the sum of the next `steps` stages.
  __device__ void multiply(float (&acc)[kN / 2], int steps) {
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) acc[i] = 0;
    int previous = -1;
    for (; steps > 0; --steps) {
      ring.wait(ring.full + 8 * cursor.stage, cursor.phase);
      ptx::fence_proxy_async();
      const uint32 stage = ring.data + cursor.stage * kConfig.stage_bytes();
      const uint64 a = device::operand(stage + (thread / 128) * (64 * 128));
      const uint64 b = device::operand(stage + Config::kWeightBytes);
      ptx::wgmma_fence();
#pragma unroll
      for (int k = 0; k < 4; ++k) device::wgmma<kN, kConfig.half>(acc, a + 2 * k, b + 2 * k);
      ptx::wgmma_commit();
      ptx::wgmma_wait<1>();
      if (previous >= 0) release(previous);
      previous = cursor.stage;
      cursor.advance();
    }
    ptx::wgmma_wait<0>();
    if (previous >= 0) release(previous);
  }

  /// This CTA's slot for sums that another CTA finishes.
  __device__ float* slot(int cta) const {
    return args.partial +
           static_cast<int64>(cta) * (Config::kRows * max(kConfig.tokens, kConfig.block));
  }
  __device__ void publish(uint32 mark) const {
    __threadfence();
    ptx::bar_sync(1, kConsumers);
    if (thread == 0) ptx::store_release(args.flag + blockIdx.x, mark);
  }
  /// Returns once CTAs up to `end` have published.
  __device__ void wait_for_helpers(int end, uint32 mark) const {
    for (int cta = blockIdx.x + 1 + thread; cta < end; cta += kConsumers)
      device::wait_until([&] { return ptx::load_acquire(args.flag + cta) == mark; });
    if (end > blockIdx.x + 1) ptx::bar_sync(1, kConsumers);
  }

  __device__ void tile1(const Segment& s, int helpers_end) {
    float acc[kN / 2];
    multiply(acc, s.k_end - s.k_begin);
    if (s.k_begin > 0) {
#pragma unroll
      for (int i = 0; i < kN / 2; ++i) slot(blockIdx.x)[i * kConsumers + thread] = acc[i];
      return publish(1);
    }
    wait_for_helpers(helpers_end, 1);
    for (int cta = blockIdx.x + 1; cta < helpers_end; ++cta)
#pragma unroll
      for (int i = 0; i < kN / 2; ++i) acc[i] += __ldcg(slot(cta) + i * kConsumers + thread);
    const uint32 b = block[s.tile / args.row_tiles1];
    const int row_tile = s.tile % args.row_tiles1;
    if constexpr (kGated) {
      store_act<2>(acc, b, row_tile * 64 + (thread / 32) * 8 + lane() / 4);
    } else {
      store_act<1>(acc, b, row_tile * Config::kRows + tile_row());
    }
  }

  /// Output i of every token; with kParts 1 also output i + 8, from the accumulators that else hold
  /// the up projection.
  template <int kParts>
  __device__ void store_act(const float (&acc)[kN / 2], uint32 b, int i) const {
#pragma unroll
    for (int part = 0; part < 3 - kParts; ++part, i += 8) {
      float gate_bias = 0, up_bias = 0;
      if (kConfig.bias && i < args.intermediate) {
        const float* bias =
            args.gate_up_bias + static_cast<int64>(block_expert(b)) * (kParts * args.intermediate);
        gate_bias = bias[i];
        if (kParts == 2) up_bias = bias[args.intermediate + i];
      }
#pragma unroll
      for (int j = 0; j < kN / 4; ++j) {  // columns 2 x lane % 4 and the next, of each 8
        const int column = j / 2 * 8 + lane() % 4 * 2 + j % 2, at = j / 2 * 4 + j % 2 + 2 * part;
        if (column >= block_rows(b)) continue;
        const int r = block_row(b) + column;
        const float on_input = kConfig.weight_on_input ? args.lists.row_weight[r] : 1;
        const float gate = acc[at] * on_input + gate_bias;
        const float up = kParts == 2 ? acc[at + 2] * on_input + up_bias : 0;
        const float y =
            device::activate<kConfig.activation, device::FastMath>(gate, up, args.constants);
        args.act[static_cast<int64>(r) * (args.row_tiles1 * kConfig.act_rows()) + i] =
            device::from_f32<kConfig.half>(i < args.intermediate ? y : 0);
      }
    }
  }

  __device__ void phase1(int count) {
    Segment s;
    for (Share share(count * args.row_tiles1, args.k_tiles1); share.take(s);)
      tile1(s, share.last_worker(s.tile));
  }

  /// sums += down[e] . act for the next `steps` stages, all of block b; the bias comes with step 0.
  __device__ void accumulate(const Segment& s, uint32 b, int k, int steps) {
    float acc[kN / 2];
    multiply(acc, steps);
    const int row = s.tile * Config::kRows + tile_row();
    float bias[2] = {};
    if (kConfig.bias && k == 0)
      for (int i = 0; i < 2; ++i)
        if (row + 8 * i < args.hidden)
          bias[i] = args.down_bias[static_cast<int64>(block_expert(b)) * args.hidden + row + 8 * i];
#pragma unroll
    for (int j = 0; j < kN / 4; ++j) {
      const int column = j / 2 * 8 + lane() % 4 * 2 + j % 2, r = block_row(b) + column;
      if (column >= block_rows(b)) continue;
      float* sum = sums + args.lists.row_token[r] * Config::kSumStride + tile_row();
      const float weight = kConfig.weight_on_input ? 1 : args.lists.row_weight[r];
      sum[0] += weight * (acc[j / 2 * 4 + j % 2] + bias[0]);
      sum[8] += weight * (acc[j / 2 * 4 + 2 + j % 2] + bias[1]);
    }
    __syncwarp();  // the next block may bring a token to another lane
  }

  __device__ void phase2(int count) {
    const int depth = count * args.k_tiles2, warp_row = thread / 32 * 16;
    // A warp owns 16 rows: 4 floats a lane, 8 tokens at a time.
    const int token = lane() / 4, at = warp_row + lane() % 4 * 4;
    Segment s;
    for (Share share(args.row_tiles2, depth); share.take(s);) {
      for (int t = token; t < tokens; t += 8)
        *reinterpret_cast<float4*>(sums + t * Config::kSumStride + at) = {0, 0, 0, 0};
      __syncwarp();
      for (int step = s.k_begin; step < s.k_end;) {
        const int b = step / args.k_tiles2, k = step % args.k_tiles2;
        const int steps = min(args.k_tiles2 - k, s.k_end - step);
        accumulate(s, block[b], k, steps);
        step += steps;
      }
      if (s.k_begin > 0) {
        for (int t = token; t < tokens; t += 8)
          *reinterpret_cast<float4*>(slot(blockIdx.x) + t * Config::kRows + at) =
              *reinterpret_cast<const float4*>(sums + t * Config::kSumStride + at);
        publish(2);
        continue;
      }
      const int end = share.last_worker(s.tile);
      wait_for_helpers(end, 2);
      for (int t = token; t < tokens; t += 8) {
        float4 sum = *reinterpret_cast<const float4*>(sums + t * Config::kSumStride + at);
#pragma unroll 8
        for (int cta = blockIdx.x + 1; cta < end; ++cta) {
          const float4 part =
              __ldcg(reinterpret_cast<const float4*>(slot(cta) + t * Config::kRows + at));
          sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
        }
        store(t, s.tile * Config::kRows + at, sum);
      }
      __syncwarp();
    }
  }

  /// out[t, row .. row + 3]; H is a multiple of 4.
  __device__ void store(int t, int row, float4 sum) const {
    if (row >= args.hidden) return;
    uint2 bits;
    bits.x = device::pack_f32<kConfig.half>(sum.x, sum.y);
    bits.y = device::pack_f32<kConfig.half>(sum.z, sum.w);
    *reinterpret_cast<uint2*>(args.out + static_cast<int64>(t) * args.hidden + row) = bits;
  }
};

/// Everybody's FC1 output is visible after this. All CTAs are resident, so it ends.
__device__ inline void wait_for_grid(const uint32* arrived) {
  device::wait_until([&] { return ptx::load_acquire(arrived) >= gridDim.x; });
}

template <Config kConfig>
__global__ void __launch_bounds__(Config::kThreads, 1) kernel(const __grid_constant__ Args args) {
  extern __shared__ uint8 smem[];
  __shared__ uint64 barriers[2 * kConfig.stages];
  __shared__ uint32 block[Config::kMaxBlocks];

  const Ring ring{(ptx::smem_u32(smem) + 1023) & ~1023u, ptx::smem_u32(barriers),
                  ptx::smem_u32(barriers + kConfig.stages)};
  if (threadIdx.x == 0) {
    for (int i = 0; i < kConfig.stages; ++i) {
      ptx::mbarrier_init(ring.full + 8 * i, 1 + kLoaders);
      ptx::mbarrier_init(ring.empty + 8 * i, kConsumers / 32);
    }
    ptx::fence_mbarrier_init();
  }
  ptx::wait_previous_kernel();
  const int count = *args.lists.block_count;
  for (int i = threadIdx.x; i < count; i += Config::kThreads) {
    const device::Block b = args.lists.blocks[i];
    const int skipped = (i - b.first) * kConfig.block;
    block[i] = pack_block(b.expert, b.row + skipped, min(b.rows - skipped, kConfig.block));
  }
  __syncthreads();

  if (threadIdx.x < 128) {
    if (threadIdx.x == 0) {
      copy_weights<kConfig>(args, ring, block, count);
    } else if (threadIdx.x >= 32 && threadIdx.x < 32 + kLoaders) {
      TokenLoader<kConfig> loader{args, ring, block, {}, static_cast<int>(threadIdx.x) - 32};
      loader.phase1(count);
      if (threadIdx.x % 32 == 0) wait_for_grid(args.arrived);
      __syncwarp();
      loader.phase2(count);
    }
  } else {
    float* sums = reinterpret_cast<float*>(smem + (ring.data - ptx::smem_u32(smem)) +
                                           kConfig.stages * kConfig.stage_bytes());
    const int tokens =
        args.token_count ? min(*args.token_count, args.token_limit) : args.token_limit;
    Consumer<kConfig> consumer{args,  ring, block, sums, {}, static_cast<int>(threadIdx.x) - 128,
                               tokens};
    consumer.phase1(count);
    __threadfence();
    ptx::bar_sync(1, kConsumers);
    if (consumer.thread == 0) ptx::add_release(args.arrived, 1);
    consumer.phase2(count);
    if (count == 0)
      for (int64 i = static_cast<int64>(blockIdx.x) * kConsumers + consumer.thread;
           i < static_cast<int64>(tokens) * args.hidden;
           i += static_cast<int64>(gridDim.x) * kConsumers)
        args.out[i] = 0;
  }
}

}  // namespace switchyard::fused_moe
