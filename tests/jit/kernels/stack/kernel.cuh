// An array indexed at run time: it can only live in local memory.
#pragma once

#include "scale/shared.cuh"

namespace switchyard::stack {

__global__ void kernel(const __grid_constant__ scale::Args args) {
  float copy[64];
#pragma unroll 1
  for (int i = 0; i < 64; ++i) copy[i * args.count % 64] = args.in[i];
  args.out[threadIdx.x] = copy[args.count % 64];
}

}  // namespace switchyard::stack
