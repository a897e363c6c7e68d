// Routing: top-k of every token, one warp a token; then the experts that have tokens, in order,
// each with its tokens, in order.
//
//   grid   Stage::select: 16 tokens a CTA; else one cluster of 1 to 8 CTAs, each with a part of T
//   block  512   smem  ranked scores of the tokens at hand, for group selection
//   reads  T E logits, limited by latency; the same bits every run; ties go to the lower expert
#pragma once

#include "device/select.cuh"
#include "ops/route/shared.cuh"

namespace switchyard::route {

/// Lists by expert, made by the CTAs of one cluster.
template <Config kConfig>
struct Grouper {
  static constexpr int kTopK = kConfig.select.top_k, kSlots = kTopK + kConfig.shared;
  const Args& args;
  const int begin, end;  // this CTA's tokens
  uint32* tokens_of;     // [L, kRound / 32]  bit: the expert has the token of this round
  int* count;            // [L]  rows of this CTA's tokens
  int* next;             // [L]  the next row of this CTA's tokens
  int* total;            // [2, 32]
  const short* kept_id;  // [pairs]  local experts, if Stage::both

  static constexpr int kWords = Config::kRound / 32;

  /// The local expert of a pair whose row this CTA places, else -1. Of a token's slots with one
  /// expert the first stands for all, with the sum of their weights.
  __device__ int pair(int token, int slot, float& weight) const {
    if constexpr (kConfig.stage == Stage::both) {
      const int at = (token - begin) * kTopK + slot;
      weight = args.router.expert_weights[static_cast<int64>(begin) * kTopK + at];
      return kept_id[at];
    } else {
      const int* ids = args.router.expert_ids + static_cast<int64>(token) * kTopK;
      const float* weights = args.router.expert_weights + static_cast<int64>(token) * kTopK;
      const int id = ids[slot];
      weight = weights[slot];
      if (id < 0 || id >= args.router.experts || !isfinite(weight)) return -1;
      for (int other = 0; !kConfig.unique && other < kTopK; ++other) {
        if (other == slot || ids[other] != id || !isfinite(weights[other])) continue;
        if (other < slot) return -1;
        weight += weights[other];
      }
      return args.router.expert_map ? args.router.expert_map[id] : id;
    }
  }

  __device__ void count_pairs() const {
    const int pairs = (end - begin) * kTopK;
    for (int i = threadIdx.x; i < pairs; i += Config::kThreads) {
      float weight;
      const int e = pair(begin + i / kTopK, i % kTopK, weight);
      if (e >= 0) atomicAdd(count + e, 1);
      if constexpr (kConfig.stage == Stage::group) report(i);
    }
    if (static_cast<int>(threadIdx.x) < kConfig.shared)
      count[args.locals + threadIdx.x] = end - begin;
  }

  __device__ void report(int i) const {
    if (!args.router.counters) return;
    const int64 at = static_cast<int64>(begin) * kTopK + i;
    const int id = args.router.expert_ids[at];
    if (id < -1 || id >= args.router.experts) atomicAdd(args.router.counters, 1ull);
    if (id >= 0 && id < args.router.experts && !isfinite(args.router.expert_weights[at]))
      atomicAdd(args.router.counters + 1, 1ull);
  }

  /// First row and first block of every expert; CTA 0 writes the blocks. A thread has kOwn experts.
  __device__ void place_experts() const {
    constexpr int kOwn = Config::kMaxLists / Config::kThreads;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, own = threadIdx.x * kOwn;
    const uint32 rank = ptx::cluster_rank();
    int rows[kOwn] = {}, before[kOwn] = {}, block_sum = 0, row_sum = 0;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      for (uint32 r = 0; r < ptx::cluster_size(); ++r) {
        const int n = static_cast<int>(ptx::load_peer(ptx::smem_u32(count + own + i), r));
        before[i] += r < rank ? n : 0;
        rows[i] += n;
      }
      block_sum += blocks(rows[i]);
      row_sum += room(rows[i]);
    }
    int first = -block_sum, first_row = -row_sum;  // of this thread, once the sums are inclusive
    for (int d = 1; d < 32; d *= 2) {
      const int b = __shfl_up_sync(~0u, block_sum, d), r = __shfl_up_sync(~0u, row_sum, d);
      if (lane >= d) block_sum += b, row_sum += r;
    }
    if (lane == 31) total[warp] = block_sum, total[32 + warp] = row_sum;
    __syncthreads();
    for (int w = 0; w < warp; ++w) block_sum += total[w], row_sum += total[32 + w];
    first += block_sum, first_row += row_sum;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      next[own + i] = first_row + before[i];
      if (rank == 0) write_blocks(own + i, first, first_row, rows[i]);
      first += blocks(rows[i]), first_row += room(rows[i]);
    }
    if (rank == 0 && threadIdx.x == Config::kThreads - 1) *args.lists.block_count = block_sum;
  }

  __device__ int blocks(int rows) const {
    return (rows + args.block - 1) / args.block;
  }
  __device__ static int room(int rows) {
    return (rows + device::kRowAlign - 1) / device::kRowAlign * device::kRowAlign;
  }
  __device__ void write_blocks(int expert, int first, int row, int rows) const {
    for (int i = 0; i < blocks(rows); ++i)
      args.lists.blocks[first + i] = {.expert = expert, .row = row, .rows = rows, .first = first};
  }

  __device__ void write_row(int token, int slot, int row, float weight) const {
    args.lists.slot_row[static_cast<int64>(token) * kSlots + slot] = row;
    if (row < 0) return;
    args.lists.row_token[row] = token;
    args.lists.row_weight[row] = weight;
  }

  __device__ void place_rows() const {
    for (int round = begin; round < end; round += Config::kRound) {
      const int pairs = min(end - round, Config::kRound) * kTopK;
      for (int i = threadIdx.x; i < args.locals * kWords; i += Config::kThreads) tokens_of[i] = 0;
      __syncthreads();
      for (int i = threadIdx.x; i < pairs; i += Config::kThreads) {
        const int t = i / kTopK;
        float weight;
        const int e = pair(round + t, i % kTopK, weight);
        if (e >= 0) atomicOr(tokens_of + e * kWords + t / 32, 1u << (t % 32));
      }
      __syncthreads();
      for (int i = threadIdx.x; i < pairs; i += Config::kThreads) {
        const int t = i / kTopK, slot = i % kTopK;
        float weight;
        const int e = pair(round + t, slot, weight);
        int row = -1;
        if (e >= 0) {
          const uint32* words = tokens_of + e * kWords;
          row = next[e] + __popc(words[t / 32] & ((1u << (t % 32)) - 1));
          for (int w = 0; w < t / 32; ++w) row += __popc(words[w]);
        }
        write_row(round + t, slot, row, weight);
      }
      __syncthreads();
      for (int e = threadIdx.x; e < args.locals; e += Config::kThreads)
        for (int w = 0; w < kWords; ++w) next[e] += __popc(tokens_of[e * kWords + w]);
      __syncthreads();
    }
  }

  __device__ void place_shared_rows() const {
    const int lane = threadIdx.x % 32;
    for (int t = begin + threadIdx.x / 32; t < end; t += Config::kThreads / 32) {
      const float weight = args.shared_gate ? gate(t, lane) : 1.0f;
      if (lane < kConfig.shared)
        write_row(t, kTopK + lane, next[args.locals + lane] + t - begin, weight);
    }
  }

  /// sigmoid(token . shared_gate)
  __device__ float gate(int token, int lane) const {
    const uint16* x = args.tokens + static_cast<int64>(token) * args.hidden;
    float sum = 0;
    for (int i = lane; i < args.hidden; i += 32)
      sum += device::to_f32<kConfig.half>(x[i]) * args.shared_gate[i];
    return 1 / (1 + expf(-device::warp_sum(sum)));
  }

  __device__ void run() const {
    count_pairs();
    ptx::cluster_sync();
    place_experts();
    __syncthreads();
    if constexpr (kConfig.shared > 0) place_shared_rows();
    place_rows();
    ptx::cluster_sync();  // peers may still read this CTA's counts
  }
};

template <Config kConfig>
__global__ void __launch_bounds__(Config::kThreads, 1) kernel(const __grid_constant__ Args args) {
  extern __shared__ float scratch[];  // [warps, E or 2 E with groups]
  constexpr bool kGroups = kConfig.stage != Stage::select;
  constexpr int kTopK = kConfig.select.top_k;
  constexpr int kKept = kConfig.stage == Stage::both ? Config::kRound * kTopK : 1;
  constexpr int kWarps = Config::kThreads / 32;
  __shared__ uint32 tokens_of[kGroups ? Config::kMaxLists * Config::kRound / 32 : 1];
  __shared__ int count[kGroups ? Config::kMaxLists : 1];
  __shared__ int next[kGroups ? Config::kMaxLists : 1];
  __shared__ int total[64];
  __shared__ short kept_id[kKept];
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;

  const int tokens = args.token_count ? min(*args.token_count, args.token_limit) : args.token_limit;
  const int share = (tokens + static_cast<int>(gridDim.x) - 1) / static_cast<int>(gridDim.x);
  const int begin = min(static_cast<int>(blockIdx.x) * share, tokens);
  const int end = min(begin + share, tokens);

  if constexpr (kGroups) {
    for (int e = thread; e < Config::kMaxLists; e += Config::kThreads) count[e] = 0;
    for (int i = blockIdx.x * Config::kThreads + thread; i < args.flags;
         i += gridDim.x * Config::kThreads)
      args.flag[i] = 0;
    ptx::launch_dependents();
    if constexpr (kConfig.stage == Stage::group) ptx::wait_previous_kernel();
    __syncthreads();
  }
  if constexpr (kConfig.stage != Stage::group) {
    const device::Router& router = args.router;
    const int width = device::select_scratch(kConfig.select, router.experts);
    for (int token = begin + warp; token < end; token += kWarps) {
      int id;
      float weight;
      device::Selector<kConfig.select>{router, scratch + warp * width, lane,
                                       router.counters != nullptr}
          .run(token, id, weight);
      if (lane >= kTopK) continue;
      router.expert_ids[static_cast<int64>(token) * kTopK + lane] = id;
      router.expert_weights[static_cast<int64>(token) * kTopK + lane] = weight;
      const bool usable = id >= 0 && isfinite(weight);
      if (id >= 0 && !usable && router.counters) atomicAdd(router.counters + 1, 1ull);
      if constexpr (kConfig.stage == Stage::both)
        kept_id[(token - begin) * kTopK + lane] =
            static_cast<short>(!usable             ? -1
                               : router.expert_map ? router.expert_map[id]
                                                   : id);
    }
    __syncthreads();
  }
  if constexpr (kConfig.stage == Stage::select) ptx::launch_dependents();
  if constexpr (kGroups)
    Grouper<kConfig>{args, begin, end, tokens_of, count, next, total, kept_id}.run();
}

}  // namespace switchyard::route
