// Routing of up to 16 tokens inside a kernel that goes on with the experts: every CTA chooses and
// lists for itself what a launch of ops/route would, in shared memory.
#pragma once

#include "device/lists.cuh"
#include "device/select.cuh"

namespace switchyard::device {

constexpr int kMaxRouted = 16;  // tokens: bits of a list's lower half

/// Rows are consecutive, by expert and then by token.
template <Selection kSelect, int kTokens, int kShared, int kThreads>
struct RouteBatch {
  static_assert(kTokens <= kMaxRouted);
  static constexpr int kTopK = kSelect.top_k, kSlots = kTopK + kShared;
  static constexpr int kSize = kTokens * kSlots, kPairs = kSize > 0 ? kSize : 1;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kLists = 1024;
  static constexpr int kOwn = (kLists + kThreads - 1) / kThreads;  // lists a thread

  struct Lists {
    uint32 blocks[kPairs];  // [B]  pack_block()
    int row_token[kPairs];  // [R]
    float row_weight[kPairs];
    uint32 sums[kWarps];  // blocks << 16 | rows
    int count;            // B, of one token
  };
  struct Scratch {
    uint32 list[kLists];    // first row << 16 | tokens, as bits
    int pair_list[kPairs];  // -1: no row
    float pair_weight[kPairs];
  };

  const Router& router;
  Lists& own;
  Scratch& scratch;
  float* scores;  // [warps, select_scratch]
  int locals, tokens;

  __device__ static void clear(Scratch& scratch) {
    for (int i = threadIdx.x; i < kLists; i += kThreads) scratch.list[i] = 0;
  }

  /// Every thread, after clear() and a barrier; another barrier has to follow.
  __device__ void choose() const {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll 1
    for (int t = warp; t < tokens; t += kWarps) {
      float weight = 0;
      const int list = choose(t, weight, lane);
      if (tokens == 1) {
        list_one(list, weight, lane);
      } else {
        if (lane < kTopK) place(t, lane, list, weight);
        if (lane < kShared) place(t, kTopK + lane, locals + lane, 1);
      }
    }
    if constexpr (kSelect.groups > 1) ptx::fence_proxy_async();  // copies to `scores` may follow
  }

  /// Lane j < K: slot j's list, or -1, and its weight.
  __device__ int choose(int token, float& weight, int lane) const {
    const bool reports = blockIdx.x == 0 && router.counters;
    const int at = token * kTopK + lane;
    int id = -1;
    if (router.logits) {
      float* of_warp = scores + threadIdx.x / 32 * select_scratch(kSelect, router.experts);
      Selector<kSelect>{router, of_warp, lane, reports}.run(token, id, weight);
      if (blockIdx.x == 0 && lane < kTopK && router.expert_ids) keep(at, id, weight);
    } else if (lane < kTopK) {
      id = router.expert_ids[at];
      weight = router.expert_weights[at];
    }
    bool usable = lane < kTopK && id >= 0 && id < router.experts && isfinite(weight);
    if (reports && lane < kTopK) report(id, usable);
    if (!router.logits) usable = merge(usable, id, weight);
    return !usable ? -1 : router.expert_map ? router.expert_map[id] : id;
  }

  /// One token needs no order of experts: its slots are the blocks.
  __device__ void list_one(int list, float weight, int lane) const {
    const uint32 listed = __ballot_sync(~0u, list >= 0);
    const int at = __popc(listed & ((1u << lane) - 1));
    if (list >= 0) set_row(at, list, weight);
    if (lane < kShared) set_row(__popc(listed) + lane, locals + lane, 1);
    if (lane == 0) own.count = __popc(listed) + kShared;
  }
  __device__ void set_row(int at, int list, float weight) const {
    own.blocks[at] = pack_block(list, at, 1);
    own.row_token[at] = 0;
    own.row_weight[at] = weight;
  }

  __device__ void keep(int at, int id, float weight) const {
    router.expert_ids[at] = id;
    router.expert_weights[at] = weight;
  }
  __device__ void report(int id, bool usable) const {
    if (id < -1 || id >= router.experts) atomicAdd(router.counters, 1ull);
    if (id >= 0 && id < router.experts && !usable) atomicAdd(router.counters + 1, 1ull);
  }
  /// Of a token's slots with one expert the first stands for all, with the sum of their weights.
  __device__ static bool merge(bool usable, int id, float& weight) {
    const int lane = threadIdx.x % 32, mine = usable ? id : -1;
    const float part = weight;
    bool first = true;
#pragma unroll 1
    for (int slot = 0; slot < kTopK; ++slot) {
      const int other = __shfl_sync(~0u, mine, slot);
      const float more = __shfl_sync(~0u, part, slot);
      if (slot == lane || other != mine) continue;
      if (slot < lane) first = false;
      weight += more;
    }
    return usable && first;
  }
  __device__ void place(int token, int slot, int list, float weight) const {
    scratch.pair_list[token * kSlots + slot] = list;
    scratch.pair_weight[token * kSlots + slot] = weight;
    if (list >= 0) atomicOr(scratch.list + list, 1u << token);
  }

  /// Every thread, after choose() and a barrier; returns the number of blocks, one for each list
  /// that has tokens.
  __device__ int list_experts() const {
    if (tokens == 1) return own.count;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int first = static_cast<int>(threadIdx.x) * kOwn, end = min(first + kOwn, kLists);
    uint32 sum = 0;
    for (int i = first; i < end; ++i) sum += count(scratch.list[i]);
    uint32 before = sum;
    for (int d = 1; d < 32; d *= 2) {
      const uint32 left = __shfl_up_sync(~0u, before, d);
      if (lane >= d) before += left;
    }
    if (lane == 31) own.sums[warp] = before;
    before -= sum;
    __syncthreads();
    uint32 all = 0;
#pragma unroll 1
    for (int w = 0; w < kWarps; ++w) {
      if (w == warp) before += all;
      all += own.sums[w];
    }
    for (int i = first; i < end; ++i) {
      const uint32 more = count(scratch.list[i]);
      if (!more) continue;
      const int row = static_cast<int>(before & 0xffff);
      own.blocks[before >> 16] = pack_block(i, row, static_cast<int>(more & 0xffff));
      scratch.list[i] |= before << 16;
      before += more;
    }
    __syncthreads();
    return static_cast<int>(all >> 16);
  }
  __device__ static uint32 count(uint32 mask) {
    return mask ? 1u << 16 | static_cast<uint32>(__popc(mask)) : 0;
  }

  /// `threads` threads from `first` on, after list_experts(); a barrier of theirs has to follow.
  __device__ void fill_rows(int first, int threads) const {
    if (tokens == 1) return;
    for (int i = static_cast<int>(threadIdx.x) - first; i < tokens * kSlots; i += threads) {
      const int list = scratch.pair_list[i];
      if (list < 0) continue;
      const int token = i / kSlots;
      const uint32 word = scratch.list[list];
      const int row = static_cast<int>(word >> 16) + __popc(word & ((1u << token) - 1));
      own.row_token[row] = token;
      own.row_weight[row] = scratch.pair_weight[i];
    }
  }
};

}  // namespace switchyard::device
