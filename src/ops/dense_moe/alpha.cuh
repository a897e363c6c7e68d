// What dense GEMMs need of a routing: alpha of every token and expert, and which experts count.
//
//   alpha[t, e] = weight * factor[e] for the slots of token t that have expert e, else 0
//
//   grid   T + 1 CTAs, one a token and one for the list   block  256
//   bits   a repeated expert's slots are added in order, or the last one counts
#pragma once

#include "device/ptx.cuh"
#include "ops/dense_moe/shared.cuh"

namespace switchyard::dense_moe {

__device__ inline bool slot_counts(const AlphaArgs& args, int64 slot, int& id, float& weight) {
  id = args.ids[slot], weight = args.weights[slot];
  return id >= 0 && id < args.experts && fabsf(weight) <= 3.4028234e38f;
}

__device__ inline void fill_row(const AlphaArgs& args, int token, int tokens) {
  float* row = args.alpha + static_cast<int64>(token) * args.experts;
  for (int e = threadIdx.x; e < args.experts; e += kAlphaThreads) row[e] = 0;
  __syncthreads();
  if (threadIdx.x != 0 || token >= tokens) return;
  for (int k = 0; k < args.top_k; ++k) {
    int id;
    float weight;
    if (!slot_counts(args, static_cast<int64>(token) * args.top_k + k, id, weight)) continue;
    const float value = weight * (args.factors[2 * id] * args.factor);
    row[id] = args.last_counts ? value : row[id] + value;
  }
}

/// In rising order: each thread has a run of experts.
__device__ inline void list_experts(const AlphaArgs& args, int tokens) {
  __shared__ uint8 counts[kMaxAlphaExperts];
  __shared__ int before[kAlphaThreads];
  for (int e = threadIdx.x; e < args.experts; e += kAlphaThreads) counts[e] = 0;
  __syncthreads();
  for (int slot = threadIdx.x; slot < tokens * args.top_k; slot += kAlphaThreads) {
    int id;
    float weight;
    if (slot_counts(args, slot, id, weight)) counts[id] = 1;
  }
  __syncthreads();
  const int run = (args.experts + kAlphaThreads - 1) / kAlphaThreads;
  const int first = min(static_cast<int>(threadIdx.x) * run, args.experts),
            end = min(first + run, args.experts);
  int own = 0;
  for (int e = first; e < end; ++e) own += counts[e];
  before[threadIdx.x] = own;
  __syncthreads();
  int place = 0;
  for (uint32 i = 0; i < threadIdx.x; ++i) place += before[i];
  for (int e = first; e < end; ++e)
    if (counts[e]) args.listed[1 + place++] = e;
  if (threadIdx.x == kAlphaThreads - 1) args.listed[0] = place;
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads) alpha(const __grid_constant__ AlphaArgs args) {
  static_assert(kThreads == kAlphaThreads);
  ptx::launch_dependents();
  ptx::wait_previous_kernel();
  const int tokens = args.token_count ? min(*args.token_count, args.token_limit) : args.token_limit;
  const int token = static_cast<int>(blockIdx.x) - 1;
  if (token < 0)
    list_experts(args, tokens);
  else if (token < args.token_limit)
    fill_row(args, token, tokens);
}

}  // namespace switchyard::dense_moe
