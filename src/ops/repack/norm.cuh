// Of each expert's tiles [E, row_tiles, column_tiles]: the largest sum of a row's absolute values.
//
//   grid   {row tiles, E}   block  256: a tile at a time, 4 chunks of 16 bytes a thread
//   reads each byte once; limited by memory
#pragma once

#include "device/half.cuh"
#include "device/ptx.cuh"
#include "ops/repack/shared.cuh"

namespace switchyard::repack {

template <Half kHalf>
__global__ void __launch_bounds__(Config::kThreads) norm(const __grid_constant__ NormArgs args) {
  const Chunk* tile = args.tiles + (static_cast<int64>(blockIdx.y) * gridDim.x + blockIdx.x) *
                                       args.column_tiles * kTileChunks;
  float sum[Config::kPerThread] = {};  // of row (thread + i kThreads) / kRowChunks
  for (int k = 0; k < args.column_tiles; ++k, tile += kTileChunks) {
#pragma unroll
    for (int i = 0; i < Config::kPerThread; ++i) {
      const Chunk chunk = tile[threadIdx.x + i * Config::kThreads];
#pragma unroll
      for (const uint32 word : chunk.words)
        sum[i] += fabsf(device::to_f32<kHalf>(static_cast<uint16>(word))) +
                  fabsf(device::to_f32<kHalf>(static_cast<uint16>(word >> 16)));
    }
  }
#pragma unroll
  for (int i = 0; i < Config::kPerThread; ++i) {
    for (int d = 1; d < kRowChunks; d *= 2) sum[i] += __shfl_xor_sync(~0u, sum[i], d);
    if (threadIdx.x % kRowChunks == 0)  // a NaN is the largest
      ptx::reduce_max(args.norms + 2 * blockIdx.y, bits_as<uint32>(sum[i]) & 0x7fffffffu);
  }
}

}  // namespace switchyard::repack
