// Four-bit weights of E experts, as checkpoints have them <-> tiles, exactly; and norms of tiles.
//
//   grid   {tiles of one expert, E}  or  {row tiles, E}   block  128
//   reads and writes each byte once: 8 bytes of codes a thread at a time, a tile by 16
#pragma once

#include "device/ptx.cuh"
#include "ops/repack/fp4.cuh"

namespace switchyard::repack {

/// The rows of this CTA's expert.
template <Weights kWeights>
__device__ inline Fp4Rows rows_of(const Fp4Args& args) {
  const int64 elements = static_cast<int64>(args.matrix.out) * args.matrix.in;
  return {args.rows.codes + blockIdx.y * (elements / 2),
          args.rows.scales + blockIdx.y * (elements / fp4_block(kWeights))};
}

template <Weights kWeights, Direction kDirection>
__global__ void __launch_bounds__(kFp4Threads) move_fp4(const __grid_constant__ Fp4Args args) {
  constexpr int kBytes = device::tile_bytes(kWeights);
  const int place = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  __shared__ alignas(16) uint8 tile[kBytes];
  auto* staged = reinterpret_cast<uint4*>(tile);
  auto* tiles = reinterpret_cast<uint4*>(
      args.tiles + (static_cast<int64>(blockIdx.y) * gridDim.x + blockIdx.x) * kBytes);
  if constexpr (kDirection == Direction::pack)
    pack_fp4<kWeights>(args.matrix, rows_of<kWeights>(args), args.shift, place, thread, tile);
  else
    for (uint32 i = threadIdx.x; i < kBytes / sizeof(uint4); i += kFp4Threads) staged[i] = tiles[i];
  __syncthreads();
  if constexpr (kDirection == Direction::unpack)
    unpack_fp4<kWeights>(args.matrix, tile, args.shift, place, thread, rows_of<kWeights>(args));
  else
    for (uint32 i = threadIdx.x; i < kBytes / sizeof(uint4); i += kFp4Threads) tiles[i] = staged[i];
}

/// norms[2 e] = the largest sum of a row's absolute values, times the expert's factor.
template <Weights kWeights>
__global__ void __launch_bounds__(kFp4Threads) norm_fp4(const __grid_constant__ NormArgs args) {
  const int thread = static_cast<int>(threadIdx.x);
  const uint8* tile = reinterpret_cast<const uint8*>(args.tiles) +
                      (static_cast<int64>(blockIdx.y) * gridDim.x + blockIdx.x) *
                          args.column_tiles * device::tile_bytes(kWeights);
  float sum[2][2] = {};  // half, row g or g + 8
  for (int k = 0; k < args.column_tiles; ++k, tile += device::tile_bytes(kWeights))
    for (int half = 0; half < 2; ++half) {
      const auto* words = reinterpret_cast<const uint32*>(tile) + (half * kFp4Threads + thread) * 4;
      for (int group = 0; group < 4; ++group) {
        const device::Fp4Pairs pairs =
            device::spread_fp4(words[group / 2 * 2], words[group / 2 * 2 + 1]);
        for (int p = 0; p < 4; ++p) {
          const uint32 pair = group % 2 ? pairs.odd[p] : pairs.even[p];
          const uint32 code = tile[fp4_scale_at(kWeights, thread, half, group, p % 2)];
          const uint32 scale = kWeights == Weights::nvfp4 ? device::expand_scales(code)
                                                          : device::expand_exponents(code);
          const float s = device::to_f32<Half::bf16>(static_cast<uint16>(scale));
          sum[half][p % 2] +=
              fabsf(device::to_f32<Half::bf16>(static_cast<uint16>(pair)) * s) +
              fabsf(device::to_f32<Half::bf16>(static_cast<uint16>(pair >> 16)) * s);
        }
      }
    }
  for (int i = 0; i < 4; ++i) {
    float row = sum[i / 2][i % 2];
    for (int d = 1; d < 4; d *= 2) row += __shfl_xor_sync(~0u, row, d);
    if (thread % 4 == 0)
      ptx::reduce_max(args.norms + 2 * blockIdx.y,
                      bits_as<uint32>(row * args.factors[2 * blockIdx.y]) & 0x7fffffffu);
  }
}

}  // namespace switchyard::repack
