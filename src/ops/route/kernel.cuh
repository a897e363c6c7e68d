// Routing for at most 128 tokens in one CTA: top-k of every token, one warp a token, then the
// experts that have tokens, in order, each with its tokens, in order.
//
//   grid  1   block  1024   smem  ranked scores of the token at hand, for group selection
//   reads T E logits, limited by latency; the same bits every run; ties go to the lower expert
#pragma once

#include "device/ptx.cuh"
#include "ops/route/shared.cuh"

namespace switchyard::route {

constexpr float kMinusInfinity = -__builtin_huge_valf();

/// Orders floats as unsigned integers; NaN below everything.
__device__ inline uint32 order_key(float value) {
  if (value != value) return 0;
  const uint32 bits = __float_as_uint(value + 0.0f);  // -0 ties with 0
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
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
  float* scratch;  // [E] of this warp
  int lane;

  __device__ float logit(int token, int e) const {
    const int64 at = static_cast<int64>(token) * args.experts + e;
    float z;
    if constexpr (kConfig.bf16_logits)
      z = __uint_as_float(static_cast<uint32>(static_cast<const uint16*>(args.logits)[at]) << 16);
    else
      z = static_cast<const float*>(args.logits)[at];
    return args.logit_bias ? z + args.logit_bias[e] : z;
  }

  /// Keeps the best topk_groups groups by the sum of their two largest values.
  __device__ void keep_groups(uint32 (&key)[kConfig.per_lane]) {
    constexpr int size = kConfig.group_size;
    float best = kMinusInfinity, second = kMinusInfinity;
    __syncwarp();
    if (lane < kConfig.groups)
#pragma unroll 8
      for (int i = 0; i < size; ++i) {
        const float v = scratch[lane * size + (i + lane) % size];  // rotated: no bank conflicts
        second = fmaxf(second, fminf(best, v));
        best = fmaxf(best, v);
      }
    const float mine = lane < kConfig.groups ? best + second : kMinusInfinity;
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

  __device__ void run(int token, int& id, float& weight) {
    uint32 key[kConfig.per_lane];
    float p[kConfig.per_lane], largest = kMinusInfinity;
#pragma unroll
    for (int j = 0; j < kConfig.per_lane; ++j) {
      const int e = j * 32 + lane;
      const bool inside = e < args.experts;
      const float z = inside ? logit(token, e) : kMinusInfinity;
      p[j] = score_of<kConfig.score>(z);
      if constexpr (kConfig.score == Score::softmax) largest = fmaxf(largest, p[j]);
      // Without a bias by the logit: scores saturate.
      const float ranked = inside && args.correction ? p[j] + args.correction[e] : z;
      key[j] = inside ? order_key(ranked) : 0;
      if (kConfig.groups > 1 && inside) scratch[e] = ranked;
    }
    if constexpr (kConfig.score == Score::softmax) {
      largest = warp_max(largest);
      float sum = 0;
#pragma unroll
      for (int j = 0; j < kConfig.per_lane; ++j) sum += p[j] = expf(p[j] - largest);
      sum = 1 / warp_sum(sum);
#pragma unroll
      for (int j = 0; j < kConfig.per_lane; ++j) p[j] *= sum;
    }
    if constexpr (kConfig.groups > 1) keep_groups(key);

    id = -1, weight = 0;
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
      float value = 0;
#pragma unroll
      for (int j = 0; j < kConfig.per_lane; ++j)
        if (j * 32 + lane == expert) value = p[j], key[j] = 0;
      value = __shfl_sync(~0u, value, expert % 32);
      if (lane == slot) id = static_cast<int>(expert), weight = value;
    }
    normalize(id >= 0, weight);
  }

  __device__ void normalize(bool mine, float& weight) const {
    if constexpr (kConfig.normalize == Normalize::sum) {
      weight /= warp_sum(mine ? weight : 0) + 1e-20f;
    } else if constexpr (kConfig.normalize == Normalize::softmax) {
      const float e = mine ? expf(weight - warp_max(mine ? weight : kMinusInfinity)) : 0;
      weight = e / warp_sum(e);
    }
    weight *= args.scaling;
  }
};

template <Config kConfig>
__global__ void __launch_bounds__(Config::kThreads, 1) kernel(const __grid_constant__ Args args) {
  extern __shared__ float scratch[];  // [32, E] if there are groups
  __shared__ uint32 tokens_of[Config::kMaxExperts][4];
  __shared__ int first[Config::kMaxExperts];  // first row
  __shared__ int warp_total[2][32];
  __shared__ short id_of[Config::kMaxTokens * kConfig.top_k];  // local expert or -1
  __shared__ float weight_of[Config::kMaxTokens * kConfig.top_k];
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;

  for (int i = 0; i < 4; ++i) tokens_of[thread][i] = 0;
  for (int i = thread; i < args.flags; i += Config::kThreads) args.flag[i] = 0;
  ptx::launch_dependents();
  __syncthreads();

  for (int token = warp; token < args.tokens; token += 32) {
    int id;
    float weight;
    Selector<kConfig>{args, scratch + warp * args.experts, lane}.run(token, id, weight);
    if (lane >= kConfig.top_k) continue;
    const bool usable = id >= 0 && isfinite(weight);
    const int local = !usable ? -1 : args.expert_map ? args.expert_map[id] : id;
    args.expert_ids[token * kConfig.top_k + lane] = id;
    args.expert_weights[token * kConfig.top_k + lane] = weight;
    id_of[token * kConfig.top_k + lane] = static_cast<short>(local);
    weight_of[token * kConfig.top_k + lane] = weight;
    if (local >= 0) atomicOr(&tokens_of[local][token / 32], 1u << (token % 32));
  }
  __syncthreads();

  // Exclusive sums over experts of {blocks, rows}.
  int rows = 0;
  for (int i = 0; i < 4; ++i) rows += __popc(tokens_of[thread][i]);
  const int blocks = (rows + kConfig.block - 1) / kConfig.block;
  int block_sum = blocks, row_sum = rows;
  for (int d = 1; d < 32; d *= 2) {
    const int b = __shfl_up_sync(~0u, block_sum, d), r = __shfl_up_sync(~0u, row_sum, d);
    if (lane >= d) block_sum += b, row_sum += r;
  }
  if (lane == 31) warp_total[0][warp] = block_sum, warp_total[1][warp] = row_sum;
  __syncthreads();
  for (int w = 0; w < warp; ++w) block_sum += warp_total[0][w], row_sum += warp_total[1][w];
  first[thread] = row_sum - rows;
  for (int i = 0; i < blocks; ++i) {
    args.block_expert[block_sum - blocks + i] = thread;
    args.block_row[block_sum - blocks + i] = row_sum - rows + i * kConfig.block;
  }
  if (thread == Config::kThreads - 1) {
    *args.block_count = block_sum;
    args.block_row[block_sum] = row_sum;
  }
  __syncthreads();

  for (int pair = thread; pair < args.tokens * kConfig.top_k; pair += Config::kThreads) {
    const int token = pair / kConfig.top_k, local = id_of[pair];
    if (local < 0) continue;
    int row = first[local] + __popc(tokens_of[local][token / 32] & ((1u << (token % 32)) - 1));
    for (int i = 0; i < token / 32; ++i) row += __popc(tokens_of[local][i]);
    args.row_token[row] = token;
    args.row_weight[row] = weight_of[pair];
  }
}

}  // namespace switchyard::route
