// The layer for small batches in one launch: out[t, :] = sum over experts e of
//   w[t, e] * down[e] . act(gate_up[e] . x[t])
//
//   grid   one or two CTAs an SM, all resident; copy warps and eight consumer warps
//   smem   ring of {128 x 64 weight tile, block x 64 token tile}; f32 sums [tokens, 128] of phase 2
//   route  with Config::routes every CTA chooses and lists the experts for itself, which takes less
//          than waiting for a kernel that does it; else they come from ops/route
//   work   phase 1 walks (block, row tile, k), phase 2 (row tile, block, k): each CTA takes an
//          equal share of the k steps, wherever tile edges fall, so every SM reads the same number
//          of bytes. A tile cut between CTAs is finished by the one that has its first step; the
//          others hand over f32 partial sums, added in CTA order
//   reads  the weights of every expert that has tokens, once; limited by memory
//   bits   the order of sums depends on the blocks alone: two runs give the same bits
//
// Weights are the A operand (64 rows a wgmma), the tokens of one block the B operand (8..64
// columns). In phase 2 one CTA keeps its output rows over all experts: no atomics, no finalize.
#pragma once

#include "device/fp4.cuh"
#include "device/grid.cuh"
#include "device/mma_sm90.cuh"
#include "device/route_batch.cuh"
#include "ops/fused_moe/loaders.cuh"
#include "ops/fused_moe/shared.cuh"

namespace switchyard::fused_moe {

template <Config kConfig>
struct Consumer {
  const Args& args;
  const Ring& ring;
  const Batch& batch;
  const Divisors& by;
  float* sums;  // [tokens, kSumStride], each row of a tile touched by one warp only
  Cursor<kConfig.stages> cursor;
  int thread;  // 0..255

  static constexpr int kN = kConfig.block;
  static constexpr int kSlot = Config::kRows * (kConfig.tokens > kN ? kConfig.tokens : kN);
  static constexpr bool kGated = device::is_gated(kConfig.activation);

  __device__ int lane() const { return thread % 32; }
  /// Of a tile, the rows of accumulators (0, 1) and (2, 3) of each 8 columns: this and 8 more.
  __device__ int tile_row() const { return thread / 32 * 16 + lane() / 4; }

  __device__ void release(int stage) const {
    if (lane() == 0) ptx::mbarrier_arrive(ring.empty + 8 * stage);
  }

  /// acc [64 rows of this warpgroup, block] = the sum of the next `steps` stages, from step k of a
  /// row tile that has k_tiles k tiles; `rows` of the block's columns count.
  __device__ void multiply(float (&acc)[kN / 2], int k, int steps, int k_tiles, int rows) {
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) acc[i] = 0;
    int previous = -1;
#pragma unroll 1
    for (; steps > 0; --steps, ++k) {
      ring.wait(ring.full + 8 * cursor.stage, cursor.phase);
      const uint32 tokens = ring.data + cursor.stage * kConfig.stage_bytes();
      const uint32 weights = tokens + kConfig.depth * kConfig.token_bytes();
      if constexpr (kConfig.weights == Weights::half) {
        ptx::fence_proxy_async();
        step(acc, weights, tokens);
        ptx::wgmma_wait<1>();
        if (previous >= 0) release(previous);
      } else {
        packed_step(acc, weights, tokens, min(kConfig.depth, k_tiles - k * kConfig.depth), rows);
        release(cursor.stage);
      }
      previous = cursor.stage;
      cursor.advance();
    }
    if constexpr (kConfig.weights == Weights::half) {
      ptx::wgmma_wait<0>();
      ptx::pin(acc);
      if (previous >= 0) release(previous);
    }
  }

  /// One k tile by wgmma, under way on return.
  __device__ void step(float (&acc)[kN / 2], uint32 weights, uint32 tokens) const {
    const uint64 a = device::operand(weights + (thread / 128) * (64 * 128));
    const uint64 b = device::operand(tokens);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) device::wgmma<kN, kConfig.half>(acc, a + 2 * k, b + 2 * k);
    ptx::wgmma_commit();
  }

  /// `tiles` k tiles by mma.sync, whose operands are the threads' own: a warpgroup has half of the
  /// rows of a tile.
  __device__ void packed_step(float (&acc)[kN / 2], uint32 weights, uint32 tokens, int tiles,
                              int rows) const {
    using Scales = device::Fp4Scales<kConfig.weights>;
    const int own = thread % 128, half = thread / 128;
    const uint32 codes = weights + half * 2048 + own * 16;
    const uint32 scales = weights + device::kFp4CodeBytes +
                          device::fp4_scales_at(kConfig.weights, own / 32, lane() / 4, half);
    const uint32 row = tokens + lane() % 8 * 128;
    uint4 words[kConfig.depth];
    Scales scale[kConfig.depth];
#pragma unroll
    for (int part = 0; part < kConfig.depth; ++part) {  // beyond `tiles` is nothing that is used
      words[part] = ptx::load_shared_4(codes + part * kConfig.weight_bytes());
      scale[part] = Scales::load(scales + part * kConfig.weight_bytes());
    }
#pragma unroll
    for (int part = 0; part < kConfig.depth; ++part) {
      if (part > 0 && part >= tiles) break;
#pragma unroll
      for (int columns = 0; columns < 2; ++columns) {  // 32 of them
        uint32 a[2][4];
        device::decode_fp4<kConfig.weights>(columns ? words[part].z : words[part].x,
                                            columns ? words[part].w : words[part].y,
                                            scale[part].words[columns], a);
        const uint32 chunk = (columns * 4 + lane() / 8 ^ lane() % 8) << 4;
#pragma unroll
        for (int j = 0; j < kN / 8; ++j) {
          if (j > 0 && j * 8 >= rows) break;
          const uint4 b = ptx::load_matrices(row + part * kConfig.token_bytes() + j * 1024 + chunk);
          ptx::mma<kConfig.half>(acc + 4 * j, a[0], b.x, b.y);
          ptx::mma<kConfig.half>(acc + 4 * j, a[1], b.z, b.w);
        }
      }
    }
  }

  /// This CTA's slot for sums that another CTA finishes.
  __device__ float* slot(int cta) const {
    return args.partial + static_cast<int64>(cta) * kSlot;
  }
  /// Marks that a CTA's slot is full, [G] for each phase.
  __device__ uint64* handed_over(int phase) const {
    return args.marks + (phase - 1) * static_cast<int>(gridDim.x);
  }
  __device__ void hand_over(int phase) const {
    ptx::bar_sync(kConsumerBar, kConsumers);
    if (thread == 0) device::set_mark(handed_over(phase) + blockIdx.x);
  }
  /// Returns once the CTAs up to `end` have handed over.
  __device__ void wait_for_helpers(int end, int phase) const {
    for (int cta = blockIdx.x + 1 + thread; cta < end; cta += kConsumers)
      device::take_mark(handed_over(phase) + cta);
    if (end > blockIdx.x + 1) ptx::bar_sync(kConsumerBar, kConsumers);
  }

  /// sum [kFours][4] += what CTAs up to `end` have handed over, in their order; kAhead of them are
  /// loaded at once. In a slot the fours begin at `at`, 4 kConsumers apart.
  template <int kFours, int kAhead>
  __device__ void add_parts(float* sum, int end, int at) const {
#pragma unroll 1
    for (int first = blockIdx.x + 1; first < end; first += kAhead) {
      const float* from = slot(first) + at;
      float4 part[kAhead][kFours];
#pragma unroll
      for (int a = 0; a < kAhead; ++a)
#pragma unroll
        for (int i = 0; i < kFours; ++i)
          part[a][i] = first + a < end ? load_four(from + a * kSlot + i * (4 * kConsumers))
                                       : float4{0, 0, 0, 0};
#pragma unroll
      for (int a = 0; a < kAhead; ++a)
#pragma unroll
        for (int i = 0; i < kFours; ++i) {
          sum[4 * i] += part[a][i].x, sum[4 * i + 1] += part[a][i].y;
          sum[4 * i + 2] += part[a][i].z, sum[4 * i + 3] += part[a][i].w;
        }
    }
  }
  __device__ static float4 load_four(const float* from) {
    return __ldcg(reinterpret_cast<const float4*>(from));
  }

  __device__ void tile1(const Segment& s, int helpers_end) {
    float acc[kN / 2];
    const auto place = static_cast<int>(by.row_tiles1.quotient(s.tile));
    const uint32 b = batch.block[place];
    const float2 factor = factors(args.factors1, b);
    multiply(acc, s.k_begin, s.k_end - s.k_begin, args.k_tiles1, block_rows(b));
    if (s.k_begin > 0) {
#pragma unroll
      for (int i = 0; i < kN / 2; i += 4)
        *reinterpret_cast<float4*>(slot(blockIdx.x) + i * kConsumers + 4 * thread) = {
            acc[i], acc[i + 1], acc[i + 2], acc[i + 3]};
      return hand_over(1);
    }
    wait_for_helpers(helpers_end, 1);
    add_parts<kN / 8, 64 / kN>(acc, helpers_end, 4 * thread);
    const int row_tile = s.tile - place * args.row_tiles1;
    if constexpr (kGated) {
      store_act<2>(acc, factor, b, row_tile * 64 + (thread / 32) * 8 + lane() / 4);
    } else {
      store_act<1>(acc, factor, b, row_tile * Config::kRows + tile_row());
    }
  }

  __device__ static float2 factors(const float* of, uint32 b) {
    if constexpr (kConfig.weights == Weights::half) return {1, 1};
    return reinterpret_cast<const float2*>(of)[block_expert(b)];
  }

  /// Output i of every token; with kParts 1 also output i + 8, from the accumulators that else hold
  /// the up projection.
  template <int kParts>
  __device__ void store_act(const float (&acc)[kN / 2], float2 factor, uint32 b, int i) const {
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
        const float on_input = kConfig.weight_on_input ? batch.row_weight[r] : 1;
        const float gate = acc[at] * factor.x * on_input + gate_bias;
        const float up = kParts == 2 ? acc[at + 2] * factor.y * on_input + up_bias : 0;
        const float y =
            device::activate<kConfig.activation, device::FastMath>(gate, up, args.constants);
        args.act[static_cast<int64>(r) * (args.row_tiles1 * kConfig.act_rows()) + i] =
            device::from_f32<kConfig.half>(i < args.intermediate ? y : 0);
      }
    }
  }

  __device__ void phase1() {
    Segment s;
    for (Share share = share1(args, batch, by); share.take(s);) tile1(s, share.last_worker(s.tile));
  }

  /// sums += down[e] . act for the next `steps` stages, all of block b; the bias comes with step 0.
  __device__ void accumulate(const Segment& s, uint32 b, int k, int steps) {
    // Loaded before the products, used after them.
    const float factor = factors(args.factors2, b).x;
    const int row = s.tile * Config::kRows + tile_row();
    float bias[2] = {};
    if (kConfig.bias && k == 0)
      for (int i = 0; i < 2; ++i)
        if (row + 8 * i < args.hidden)
          bias[i] = args.down_bias[static_cast<int64>(block_expert(b)) * args.hidden + row + 8 * i];
    int token[kN / 4];
    float weight[kN / 4];
#pragma unroll
    for (int j = 0; j < kN / 4; ++j) {
      const int column = j / 2 * 8 + lane() % 4 * 2 + j % 2, r = block_row(b) + column;
      token[j] = -1;
      if (column >= block_rows(b)) continue;
      token[j] = batch.row_token[r];
      weight[j] = kConfig.weight_on_input ? 1 : batch.row_weight[r];
    }
    float acc[kN / 2];
    multiply(acc, k, steps, args.k_tiles2, block_rows(b));
#pragma unroll
    for (int j = 0; j < kN / 4; ++j) {
      if (token[j] < 0) continue;
      float* sum = sums + token[j] * Config::kSumStride + tile_row();
      sum[0] += weight[j] * (acc[j / 2 * 4 + j % 2] * factor + bias[0]);
      sum[8] += weight[j] * (acc[j / 2 * 4 + 2 + j % 2] * factor + bias[1]);
    }
    __syncwarp();  // the next block may bring a token to another lane
  }

  __device__ void phase2() {
    const int tokens = batch.tokens, warp_row = thread / 32 * 16;
    // A warp owns 16 rows: 4 floats a lane, 8 tokens at a time.
    const int token = lane() / 4, at = warp_row + lane() % 4 * 4;
    Segment s;
    for (Share share = share2(args, batch, by); share.take(s);) {
      for (int t = token; t < tokens; t += 8)
        *reinterpret_cast<float4*>(sums + t * Config::kSumStride + at) = {0, 0, 0, 0};
      __syncwarp();
      for (int step = s.k_begin; step < s.k_end;) {
        const auto b = static_cast<int>(by.k_steps2.quotient(step));
        const int k = step - b * args.k_steps2;
        const int steps = min(args.k_steps2 - k, s.k_end - step);
        accumulate(s, batch.block[b], k, steps);
        step += steps;
      }
      if (s.k_begin > 0) {
        for (int t = token; t < tokens; t += 8)
          *reinterpret_cast<float4*>(slot(blockIdx.x) + t * Config::kRows + at) =
              *reinterpret_cast<const float4*>(sums + t * Config::kSumStride + at);
        hand_over(2);
        continue;
      }
      const int end = share.last_worker(s.tile);
      wait_for_helpers(end, 2);
      for (int t = token; t < tokens; t += 8) {
        float sum[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[i] = sums[t * Config::kSumStride + at + i];
        add_parts<1, 10>(sum, end, t * Config::kRows + at);
        store(t, s.tile * Config::kRows + at, sum);
      }
      __syncwarp();
    }
  }

  /// out[t, row .. row + 3]; H is a multiple of 4.
  __device__ void store(int t, int row, const float (&sum)[4]) const {
    if (row >= args.hidden) return;
    uint2 bits;
    bits.x = device::pack_f32<kConfig.half>(sum[0], sum[1]);
    bits.y = device::pack_f32<kConfig.half>(sum[2], sum[3]);
    *reinterpret_cast<uint2*>(args.out + static_cast<int64>(t) * args.hidden + row) = bits;
  }
};

/// The blocks that ops/route has listed, cut to as many rows as a tile has columns.
template <Config kConfig>
__device__ Batch listed(const Args& args, int tokens, uint32* block) {
  const int count = *args.lists.block_count;
  for (int i = threadIdx.x; i < count; i += kConfig.threads()) {
    const device::Block b = args.lists.blocks[i];
    const int skipped = (i - b.first) * kConfig.block;
    block[i] = device::pack_block(b.expert, b.row + skipped, min(b.rows - skipped, kConfig.block));
  }
  __syncthreads();
  return {block, args.lists.row_token, args.lists.row_weight, count, tokens};
}

template <Config kConfig>
__global__ void __launch_bounds__(kConfig.threads(), kConfig.ctas)
    kernel(const __grid_constant__ Args args) {
  using Router = device::RouteBatch<kConfig.select, kConfig.routes ? kConfig.tokens : 0,
                                    kConfig.shared, kConfig.threads()>;
  extern __shared__ uint8 smem[];
  __shared__ uint64 barriers[2 * kConfig.stages];
  __shared__ uint32 block[kConfig.routes ? 1 : Config::kMaxBlocks];
  __shared__ typename Router::Lists lists;

  const uint32 full = ptx::keep(ptx::smem_u32(barriers));
  const Ring ring{ptx::keep((ptx::smem_u32(smem) + 1023) & ~1023u), full,
                  full + 8 * kConfig.stages};
  uint8* data = smem + (ring.data - ptx::smem_u32(smem));
  float* sums = reinterpret_cast<float*>(data + kConfig.stages * kConfig.stage_bytes());
  auto& scratch = *reinterpret_cast<typename Router::Scratch*>(sums);  // until sums are needed
  constexpr int kFirst = kConfig.threads() - kConsumers;
  const int thread = threadIdx.x, warp = thread / 32;
  if (thread == 0) {
    for (int i = 0; i < kConfig.stages; ++i) {
      ptx::mbarrier_init(ring.full + 8 * i, 1 + kConfig.loaders());
      ptx::mbarrier_init(ring.empty + 8 * i, kConsumers / 32);
    }
    ptx::fence_mbarrier_init();
  }
  if constexpr (kConfig.routes) Router::clear(scratch);
  const Divisors by(args);
  __syncthreads();
  ptx::launch_dependents();
  ptx::wait_previous_kernel();
  const int tokens = args.token_count ? min(*args.token_count, args.token_limit) : args.token_limit;
  Batch batch;
  const device::GridBarrier grid{args.marks + 2 * gridDim.x};
  if (thread == kFirst - 1) grid.prepare();
  if constexpr (kConfig.routes) {
    const Router router{args.router, lists, scratch, reinterpret_cast<float*>(data),
                        args.locals, tokens};
    router.choose();
    __syncthreads();
    const int count = router.list_experts();
    batch = {lists.blocks, lists.row_token, lists.row_weight, count, tokens};
    if (warp > 0) {  // the first weights need blocks alone
      router.fill_rows(32, kConfig.threads() - 32);
      ptx::bar_sync(kRowsBar, kConfig.threads() - 32);
    }
  } else {
    batch = listed<kConfig>(args, tokens, block);
  }

  if (warp == 0) {
    if (thread == 0) copy_weights<kConfig>(args, ring, batch, by);
  } else if (warp < 1 + kConfig.loaders() / 32) {
    TokenLoader<kConfig> loader{args, ring, batch, by, {}, thread - 32};
    loader.phase1();
    if (loader.thread == 0) grid.wait();
    ptx::bar_sync(kLoaderBar, kConfig.loaders());
    loader.phase2();
    if (loader.thread == 0) grid.pass();
  } else if (thread >= kFirst) {
    Consumer<kConfig> consumer{args, ring, batch, by, sums, {}, thread - kFirst};
    consumer.phase1();
    ptx::bar_sync(kConsumerBar, kConsumers);
    if (consumer.thread == 0) grid.arrive();
    consumer.phase2();
    if (batch.count == 0)
      for (int64 i = static_cast<int64>(blockIdx.x) * kConsumers + consumer.thread;
           i < static_cast<int64>(tokens) * args.hidden;
           i += static_cast<int64>(gridDim.x) * kConsumers)
        args.out[i] = 0;
  }
}

}  // namespace switchyard::fused_moe
