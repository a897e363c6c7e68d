// Top-k of one token by one warp.
#pragma once

#include "device/half.cuh"
#include "device/ptx.cuh"
#include "device/router.cuh"

namespace switchyard::device {

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
  if constexpr (kScore == Score::sigmoid) return __fdividef(1, 1 + expf(-z));
  if constexpr (kScore == Score::sqrt_softplus) return sqrtf(z > 20 ? z : log1pf(expf(z)));
  return z;  // softmax is monotonic: its exponentials are taken of the selected logits
}

/// One token by one warp: lane holds experts lane, lane + 32, ... Lane j < K leaves with slot j.
/// Ties go to the lower expert.
template <Selection kSelect>
struct Selector {
  const Router& router;
  float* ranked;  // [E] of this warp, with groups
  int lane;
  bool reports;  // counts what is wrong with the inputs

  static constexpr int kPerLane = kSelect.per_lane;
  using Keys = uint32[kPerLane];
  using Values = float[kPerLane];

  /// Every load is on its way before the first is waited for.
  __device__ void load(int token, Values& z, Values& bias) const {
    const int last = router.experts - 1;
    const int64 first = static_cast<int64>(token) * router.experts;
    if (router.type == Logits::f32) {
      const float* row = static_cast<const float*>(router.logits) + first;
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) z[j] = row[min(j * 32 + lane, last)];
    } else {
      const uint16* row = static_cast<const uint16*>(router.logits) + first;
      uint16 narrow[kPerLane];
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) narrow[j] = row[min(j * 32 + lane, last)];
#pragma unroll
      for (int j = 0; j < kPerLane; ++j)
        z[j] = router.type == Logits::bf16 ? to_f32<Half::bf16>(narrow[j])
                                           : to_f32<Half::fp16>(narrow[j]);
    }
#pragma unroll
    for (int j = 0; j < kPerLane; ++j)
      bias[j] = router.correction ? router.correction[min(j * 32 + lane, last)] : 0;
  }

  /// Keeps the best topk_groups groups by the largest, or the two largest, of their values.
  __device__ void keep_groups(Keys& key) const {
    constexpr int size = kSelect.group_size;
    constexpr int share = kSelect.groups > 16  ? 1
                          : kSelect.groups > 8 ? 2
                          : kSelect.groups > 4 ? 4
                                               : 8;  // lanes a group
    const int group = lane / share;
    float best = minus_infinity(), second = minus_infinity();
    __syncwarp();
    if (group < kSelect.groups)
#pragma unroll
      for (int n = 0; n < (size + share - 1) / share; ++n) {
        const int i = lane % share + n * share;
        if (i >= size) break;
        const float v = ranked[group * size + i];
        second = fmaxf(second, fminf(best, v));
        best = fmaxf(best, v);
      }
#pragma unroll
    for (int d = 1; d < share; d *= 2) {
      const float other = __shfl_xor_sync(~0u, best, d);
      second = fmaxf(fmaxf(second, __shfl_xor_sync(~0u, second, d)), fminf(best, other));
      best = fmaxf(best, other);
    }
    const float mine = kSelect.group == Groups::maximum ? best : best + second;
    int better = 0;
#pragma unroll 8
    for (int g = 0; g < kSelect.groups; ++g) {
      const float other = __shfl_sync(~0u, mine, g * share);
      better += other > mine || (other == mine && g < group);
    }
    const bool keep = group < kSelect.groups && better < kSelect.topk_groups;
    const uint32 kept = __ballot_sync(~0u, keep);
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) {
      const int e = j * 32 + lane;
      if (e < router.experts && !(kept >> (e / size * share) & 1)) key[j] = 0;
    }
    __syncwarp();
  }

  /// Lane j < K gets slot j: its expert, or -1, and its weight.
  __device__ void run(int token, int& id, float& weight) const {
    Values score, bias;
    load(token, score, bias);
    Keys key;
    int not_numbers = 0;
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) {
      const int e = j * 32 + lane;
      const float z = score[j];
      not_numbers += e < router.experts && z != z;
      const bool known = e < router.experts && z == z;
      score[j] = known ? score_of<kSelect.score>(z) : minus_infinity();
      // Without a bias by the logit: scores saturate. Sums over a group are of scores.
      key[j] = known ? order_key(router.correction ? score[j] + bias[j] : z) : 0;
      if constexpr (kSelect.groups > 1)
        if (e < router.experts) ranked[e] = known ? score[j] + bias[j] : minus_infinity();
    }
    if (reports && not_numbers > 0)
      atomicAdd(router.counters + 2, static_cast<unsigned long long>(not_numbers));
    float scale = 1;
    if constexpr (kSelect.score == Score::softmax) {
      scale = exponentials(score);
      if (router.correction) {
#pragma unroll
        for (int j = 0; j < kPerLane; ++j)
          if (key[j] != 0) key[j] = order_key(scale * score[j] + bias[j]);
      }
    }
    if constexpr (kSelect.groups > 1) keep_groups(key);
    id = router.hash_table ? by_table(token) : by_rank(key);
    weight = id >= 0 ? scale : 0;
    weight *= of_expert(score, id);
    normalize(id >= 0, weight);
  }

  /// Makes exponentials of the scores; returns what makes them a softmax.
  __device__ static float exponentials(Values& score) {
    float largest = minus_infinity(), sum = 0;
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) largest = fmaxf(largest, score[j]);
    largest = warp_max(largest);
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) sum += score[j] = expf(score[j] - largest);
    return 1 / warp_sum(sum);
  }

  /// The value of expert `id` of this lane; of any expert if `id` is -1.
  __device__ static float of_expert(const Values& values, int id) {
    float mine = 0;
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) {
      const float v = __shfl_sync(~0u, values[j], id & 31);
      if (id >> 5 == j) mine = v;
    }
    return mine;
  }

  /// The expert of slot `lane`, or -1.
  __device__ int by_rank(Keys& key) const {
    int id = -1;
#pragma unroll 1
    for (int slot = 0; slot < kSelect.top_k; ++slot) {
      uint32 best = 0;
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) best = max(best, key[j]);
      const uint32 top = __reduce_max_sync(~0u, best);
      if (top == 0) break;  // NaN or nothing left: the slot stays empty
      int mine = 0;         // this lane's first
#pragma unroll
      for (int j = kPerLane - 1; j >= 0; --j)
        if (key[j] == top) mine = j;
      uint32 owners = __ballot_sync(~0u, best == top);
      if (owners & (owners - 1)) {  // a tie: to the lowest j, then the lowest lane
        const uint32 first = __reduce_min_sync(~0u, best == top ? static_cast<uint32>(mine) : ~0u);
        owners = __ballot_sync(~0u, best == top && mine == static_cast<int>(first));
      }
      const int owner = __ffs(static_cast<int>(owners)) - 1;
#pragma unroll
      for (int j = 0; j < kPerLane; ++j)
        if (lane == owner && j == mine) key[j] = 0;
      const int expert = __shfl_sync(~0u, mine, owner) * 32 + owner;
      if (lane == slot) id = expert;
    }
    return id;
  }

  __device__ int by_table(int token) const {
    const int64 input = router.wide_ids ? static_cast<const int64*>(router.input_ids)[token]
                                        : static_cast<const int*>(router.input_ids)[token];
    const bool known = input >= 0 && input < router.vocabulary;
    if (!known && lane == 0 && reports) atomicAdd(router.counters, 1ull);
    if (!known || lane >= kSelect.top_k) return -1;
    const int expert = router.hash_table[input * kSelect.top_k + lane];
    return expert >= 0 && expert < router.experts ? expert : -1;
  }

  __device__ void normalize(bool mine, float& weight) const {
    if constexpr (kSelect.normalize == Normalize::sum) {
      weight /= warp_sum(mine ? weight : 0) + 1e-20f;
    } else if constexpr (kSelect.normalize == Normalize::softmax) {
      const float largest = warp_max(mine ? weight : minus_infinity());
      const float e = mine ? expf(weight - largest) : 0;
      weight = e / warp_sum(e);
    }
    weight *= router.scaling;
  }
};

}  // namespace switchyard::device
