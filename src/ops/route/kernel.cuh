// Routing: top-k of every token, one warp a token; then the experts that have tokens, in order,
// each with its tokens, in order.
//
//   grid   Stage::select: 16 tokens a CTA; else one cluster of 1 to 8 CTAs, each with a part of T
//   block  512   smem  ranked scores of the tokens at hand, for group selection
//   reads  T E logits, limited by latency; the same bits every run; ties go to the lower expert
#pragma once

#include "device/half.cuh"
#include "device/ptx.cuh"
#include "ops/route/shared.cuh"

namespace switchyard::route {

/// Orders floats as unsigned integers; NaN below everything.
__device__ inline uint32 order_key(float value) {
  if (value != value) return 0;
  const uint32 bits = __float_as_uint(value + 0.0f);  // -0 ties with 0
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ inline float minus_infinity() {
  return __uint_as_float(0xff800000u);
}
__device__ inline float warp_max(float v) {
  for (int d = 16; d; d /= 2) v = fmaxf(v, __shfl_xor_sync(~0u, v, d));
  return v;
}
__device__ inline float warp_sum(float v) {
  for (int d = 16; d; d /= 2) v += __shfl_xor_sync(~0u, v, d);
  return v;
}

template <Score kScore>
__device__ inline float score_of(float z) {
  if constexpr (kScore == Score::sigmoid) return 1 / (1 + expf(-z));
  if constexpr (kScore == Score::sqrt_softplus) return sqrtf(z > 20 ? z : log1pf(expf(z)));
  return z;  // softmax is monotonic: its exponentials are taken of the selected logits
}

/// One token by one warp: lane holds experts lane, lane + 32, ... Lane j < K leaves with slot j.
template <Config kConfig>
struct Selector {
  const Args& args;
  float* score;  // [E] of this warp; times scale
  float* value;  // [E] of this warp: what groups are ranked by
  int lane;
  float scale = 1;

  __device__ float logit(int token, int e) const {
    const int64 at = static_cast<int64>(token) * args.experts + e;
    const auto* narrow = static_cast<const uint16*>(args.logits);
    return args.type == Logits::f32    ? static_cast<const float*>(args.logits)[at]
           : args.type == Logits::bf16 ? device::to_f32<Half::bf16>(narrow[at])
                                       : device::to_f32<Half::fp16>(narrow[at]);
  }

  /// Keeps the best topk_groups groups by the largest, or the two largest, of their values.
  __device__ void keep_groups(uint32 (&key)[kConfig.per_lane]) {
    constexpr int size = kConfig.group_size;
    float best = minus_infinity(), second = minus_infinity();
    __syncwarp();
    if (lane < kConfig.groups)
#pragma unroll 4
      for (int i = 0; i < size; ++i) {
        const float v = value[lane * size + (i + lane) % size];  // rotated: no bank conflicts
        second = fmaxf(second, fminf(best, v));
        best = fmaxf(best, v);
      }
    const float mine = lane < kConfig.groups
                           ? (kConfig.group == Groups::maximum ? best : best + second)
                           : minus_infinity();
    int better = 0;
    for (int g = 0; g < kConfig.groups; ++g) {
      const float other = __shfl_sync(~0u, mine, g);
      better += other > mine || (other == mine && g < lane);
    }
    const uint32 kept = __ballot_sync(~0u, lane < kConfig.groups && better < kConfig.topk_groups);
#pragma unroll
    for (int j = 0; j < kConfig.per_lane; ++j) {
      const int e = j * 32 + lane;
      if (e < args.experts && !(kept >> (e / size) & 1)) key[j] = 0;
    }
    __syncwarp();
  }

  /// Lane j < K gets slot j: its expert, or -1, and its weight.
  __device__ void run(int token, int& id, float& weight) {
    uint32 key[kConfig.per_lane];
    float largest = minus_infinity();
#pragma unroll
    for (int j = 0; j < kConfig.per_lane; ++j) {
      const int e = j * 32 + lane;
      key[j] = 0;
      if (e >= args.experts) continue;
      const float z = logit(token, e);
      if (z != z && args.counters) atomicAdd(args.counters + 2, 1ull);
      const float p = score_of<kConfig.score>(z);
      largest = fmaxf(largest, p);
      // Without a bias by the logit: scores saturate.
      const float ranked = args.correction ? p + args.correction[e] : z;
      key[j] = order_key(ranked);
      score[e] = p;
      if constexpr (kConfig.groups > 1) value[e] = ranked;
    }
    if constexpr (kConfig.score == Score::softmax) {
      largest = warp_max(largest);
      float sum = 0;
      for (int e = lane; e < args.experts; e += 32) sum += score[e] = expf(score[e] - largest);
      scale = 1 / warp_sum(sum);
    }
    __syncwarp();
    if constexpr (kConfig.groups > 1) keep_groups(key);
    id = -1, weight = 0;
    if (args.hash_table) {
      by_table(token, id, weight);
    } else {
      by_rank(key, id, weight);
    }
    __syncwarp();
    normalize(id >= 0, weight);
  }

  __device__ void by_rank(uint32 (&key)[kConfig.per_lane], int& id, float& weight) const {
    for (int slot = 0; slot < kConfig.top_k; ++slot) {
      uint32 best = 0;
      int at = 0;
#pragma unroll
      for (int j = 0; j < kConfig.per_lane; ++j)
        if (key[j] > best) best = key[j], at = j;
      const uint32 top = __reduce_max_sync(~0u, best);
      if (top == 0) break;  // NaN or nothing left: the slot stays empty
      const uint32 expert =
          __reduce_min_sync(~0u, best == top ? static_cast<uint32>(at * 32 + lane) : ~0u);
#pragma unroll
      for (int j = 0; j < kConfig.per_lane; ++j)
        if (j * 32 + lane == expert) key[j] = 0;
      if (lane == slot) id = static_cast<int>(expert), weight = score[expert] * scale;
    }
  }

  __device__ void by_table(int token, int& id, float& weight) const {
    const int64 input = args.wide_ids ? static_cast<const int64*>(args.input_ids)[token]
                                      : static_cast<const int*>(args.input_ids)[token];
    const bool known = input >= 0 && input < args.vocabulary;
    if (!known && lane == 0 && args.counters) atomicAdd(args.counters, 1ull);
    if (!known || lane >= kConfig.top_k) return;
    const int expert = args.hash_table[input * kConfig.top_k + lane];
    if (expert >= 0 && expert < args.experts) id = expert, weight = score[expert] * scale;
  }

  __device__ void normalize(bool mine, float& weight) const {
    if constexpr (kConfig.normalize == Normalize::sum) {
      weight /= warp_sum(mine ? weight : 0) + 1e-20f;
    } else if constexpr (kConfig.normalize == Normalize::softmax) {
      const float largest = warp_max(mine ? weight : minus_infinity());
      const float e = mine ? expf(weight - largest) : 0;
      weight = e / warp_sum(e);
    }
    weight *= args.scaling;
  }
};

/// Lists by expert, made by the CTAs of one cluster.
template <Config kConfig>
struct Grouper {
  static constexpr int kSlots = kConfig.top_k + kConfig.shared;
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
      const int at = (token - begin) * kConfig.top_k + slot;
      weight = args.expert_weights[static_cast<int64>(begin) * kConfig.top_k + at];
      return kept_id[at];
    } else {
      const int* ids = args.expert_ids + static_cast<int64>(token) * kConfig.top_k;
      const float* weights = args.expert_weights + static_cast<int64>(token) * kConfig.top_k;
      const int id = ids[slot];
      weight = weights[slot];
      if (id < 0 || id >= args.experts || !isfinite(weight)) return -1;
      for (int other = 0; !kConfig.unique && other < kConfig.top_k; ++other) {
        if (other == slot || ids[other] != id || !isfinite(weights[other])) continue;
        if (other < slot) return -1;
        weight += weights[other];
      }
      return args.expert_map ? args.expert_map[id] : id;
    }
  }

  __device__ void count_pairs() const {
    const int pairs = (end - begin) * kConfig.top_k;
    for (int i = threadIdx.x; i < pairs; i += Config::kThreads) {
      float weight;
      const int e = pair(begin + i / kConfig.top_k, i % kConfig.top_k, weight);
      if (e >= 0) atomicAdd(count + e, 1);
      if constexpr (kConfig.stage == Stage::group) report(i);
    }
    if (static_cast<int>(threadIdx.x) < kConfig.shared)
      count[args.locals + threadIdx.x] = end - begin;
  }

  __device__ void report(int i) const {
    if (!args.counters) return;
    const int64 at = static_cast<int64>(begin) * kConfig.top_k + i;
    const int id = args.expert_ids[at];
    if (id < -1 || id >= args.experts) atomicAdd(args.counters, 1ull);
    if (id >= 0 && id < args.experts && !isfinite(args.expert_weights[at]))
      atomicAdd(args.counters + 1, 1ull);
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
      const int pairs = min(end - round, Config::kRound) * kConfig.top_k;
      for (int i = threadIdx.x; i < args.locals * kWords; i += Config::kThreads) tokens_of[i] = 0;
      __syncthreads();
      for (int i = threadIdx.x; i < pairs; i += Config::kThreads) {
        const int t = i / kConfig.top_k;
        float weight;
        const int e = pair(round + t, i % kConfig.top_k, weight);
        if (e >= 0) atomicOr(tokens_of + e * kWords + t / 32, 1u << (t % 32));
      }
      __syncthreads();
      for (int i = threadIdx.x; i < pairs; i += Config::kThreads) {
        const int t = i / kConfig.top_k, slot = i % kConfig.top_k;
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
        write_row(t, kConfig.top_k + lane, next[args.locals + lane] + t - begin, weight);
    }
  }

  /// sigmoid(token . shared_gate)
  __device__ float gate(int token, int lane) const {
    const uint16* x = args.tokens + static_cast<int64>(token) * args.hidden;
    float sum = 0;
    for (int i = lane; i < args.hidden; i += 32)
      sum += device::to_f32<kConfig.half>(x[i]) * args.shared_gate[i];
    return 1 / (1 + expf(-warp_sum(sum)));
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
  extern __shared__ float scratch[];  // [1 or 2 with groups, warps, E]
  constexpr bool kGroups = kConfig.stage != Stage::select;
  constexpr int kKept = kConfig.stage == Stage::both ? Config::kRound * kConfig.top_k : 1;
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
    for (int token = begin + warp; token < end; token += kWarps) {
      int id;
      float weight;
      Selector<kConfig>{args, scratch + warp * args.experts,
                        scratch + (kWarps + warp) * args.experts, lane}
          .run(token, id, weight);
      if (lane >= kConfig.top_k) continue;
      args.expert_ids[static_cast<int64>(token) * kConfig.top_k + lane] = id;
      args.expert_weights[static_cast<int64>(token) * kConfig.top_k + lane] = weight;
      const bool usable = id >= 0 && isfinite(weight);
      if (id >= 0 && !usable && args.counters) atomicAdd(args.counters + 1, 1ull);
      if constexpr (kConfig.stage == Stage::both) {
        const int at = (token - begin) * kConfig.top_k + lane;
        kept_id[at] = static_cast<short>(!usable ? -1 : args.expert_map ? args.expert_map[id] : id);
      }
    }
    __syncthreads();
  }
  if constexpr (kConfig.stage == Stage::select) ptx::launch_dependents();
  if constexpr (kGroups)
    Grouper<kConfig>{args, begin, end, tokens_of, count, next, total, kept_id}.run();
}

}  // namespace switchyard::route
