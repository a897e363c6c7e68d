// What the memory gives: every CTA reads its part of a buffer with plain vector loads.
#pragma once

#include "device/types.cuh"

namespace switchyard::tune {

struct ReadArgs {
  const uint4* from;
  int64 count;
  uint32* sink;  // written only if the data says so, so that the loads stay
};

__global__ void __launch_bounds__(512) read_kernel(const __grid_constant__ ReadArgs args) {
  const int64 stride = static_cast<int64>(gridDim.x) * blockDim.x;
  uint32 sum = 0;
  int64 i = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; i + 7 * stride < args.count; i += 8 * stride) {
    uint4 v[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) v[k] = __ldcs(args.from + i + k * stride);
#pragma unroll
    for (int k = 0; k < 8; ++k) sum ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
  }
  if (sum == 0x12345678u) *args.sink = sum;
}

}  // namespace switchyard::tune
