// out[t, :] = sum over slots j in order of weight[t, j] * unit[row] * rows[row, :], row of (t, j)
//
//   grid   {T, ceil(H / 1024)}   block  128, a thread has 8 outputs: 16 bytes of every row
//   bits   f32 sums in the order of slots
//   limit  memory, or L2 while the rows fit
#pragma once

#include "device/ptx.cuh"
#include "device/row_scale.cuh"
#include "ops/finalize/shared.cuh"

namespace switchyard::finalize {

__device__ inline void add(float (&sum)[8], uint4 eight, float weight) {
  const uint32 words[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
  for (int i = 0; i < 8; ++i)
    sum[i] +=
        weight * device::to_f32<Half::fp16>(static_cast<uint16>(words[i / 2] >> (i % 2 * 16)));
}

template <Config kConfig>
__global__ void __launch_bounds__(Config::kThreads) kernel(const __grid_constant__ Args args) {
  constexpr int kAhead = 8;  // rows that are loaded at once
  const int t = static_cast<int>(blockIdx.x);
  const int h = static_cast<int>(blockIdx.y) * Config::kWidth + static_cast<int>(threadIdx.x) * 8;
  ptx::launch_dependents();
  ptx::wait_previous_kernel();
  const int tokens = args.token_count ? min(*args.token_count, args.token_limit) : args.token_limit;
  if (t >= tokens || h >= args.hidden) return;
  const int* slot_row = args.lists.slot_row + static_cast<int64>(t) * args.slots_a_token;
  float sum[8] = {};
  for (int first = 0; first < args.slots_a_token; first += kAhead) {
    uint4 eight[kAhead];
    float weight[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int row = first + i < args.slots_a_token ? slot_row[first + i] : -1;
      weight[i] = 0, eight[i] = {0, 0, 0, 0};
      if (row < 0) continue;
      weight[i] = device::row_unit(args.row_bound[row]);
      if constexpr (kConfig.weighted) weight[i] *= args.lists.row_weight[row];
      eight[i] = __ldcg(
          reinterpret_cast<const uint4*>(args.rows + static_cast<int64>(row) * args.hidden + h));
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) add(sum, eight[i], weight[i]);
  }
  uint4 out;
  out.x = device::pack_f32<kConfig.half>(sum[0], sum[1]);
  out.y = device::pack_f32<kConfig.half>(sum[2], sum[3]);
  out.z = device::pack_f32<kConfig.half>(sum[4], sum[5]);
  out.w = device::pack_f32<kConfig.half>(sum[6], sum[7]);
  *reinterpret_cast<uint4*>(args.out + static_cast<int64>(t) * args.hidden + h) = out;
}

}  // namespace switchyard::finalize
