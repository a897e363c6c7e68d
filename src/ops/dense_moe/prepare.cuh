// NVFP4 activations with swizzled scales -> bf16 tiles, exactly; and alpha by expert (FC2).
//
//   grid   as many CTAs as SMs   block  256; a thread has a block of 16 columns at a time
//   reads 9 bytes a block, writes 32; a launch of microseconds beside the weights
#pragma once

#include "device/half.cuh"
#include "device/ptx.cuh"
#include "formats/fp8.cuh"
#include "formats/scale_layout.cuh"
#include "ops/dense_moe/shared.cuh"

namespace switchyard::dense_moe {

/// Two neighbouring codes, the even one in the low nibble, times a scale: a pair of bf16, exactly.
__device__ inline uint32 decode_pair(uint32 codes, uint32 scale) {
  // The codes as bf16 are 2^-126 too small; the scale, times 2^112, would not bear more.
  constexpr uint32 kRest = 0x46804680;  // 2^14, twice
  return ptx::multiply_bf16x2(ptx::multiply_bf16x2(device::widen_fp4(codes), scale), kRest);
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads) prepare(const __grid_constant__ PrepareArgs args) {
  ptx::launch_dependents();
  ptx::wait_previous_kernel();
  const int64 all = static_cast<int64>(gridDim.x) * kThreads;
  const int64 own = static_cast<int64>(blockIdx.x) * kThreads + threadIdx.x;
  const int listed = args.experts_listed ? *args.experts_listed : args.experts;
  const int rows = args.blocks * args.block_rows;
  const int64 columns = static_cast<int64>(args.experts) * args.width;
  // Blocks of 16 of a tile's row, then rows, then tiles.
  const int64 count = static_cast<int64>(listed) * args.k_tiles * rows * 4;
  for (int64 i = own; i < count; i += all) {
    const int part = static_cast<int>(i % 4);
    const int64 rest = i / 4;
    const int row = static_cast<int>(rest % rows), tile = static_cast<int>(rest / rows);
    const int place = tile / args.k_tiles, k = tile - place * args.k_tiles;
    const int expert = args.experts_listed ? args.experts_listed[1 + place] : place;
    const int column = k * 64 + part * 16;
    uint32 pairs[8] = {};
    if (row < args.tokens && column < args.width) {
      const int64 at = static_cast<int64>(expert) * args.width + column;
      const uint2 codes = *reinterpret_cast<const uint2*>(args.codes + (row * columns + at) / 2);
      const uint8 code = args.scales[formats::offset_128x4(row, at / 16, columns / 16)];
      const uint32 scale =
          device::from_f32<Half::bf16>(formats::decode_e4m3(code) * 0x1p112f) * 0x10001u;
#pragma unroll
      for (int p = 0; p < 8; ++p)
        pairs[p] = decode_pair((p < 4 ? codes.x : codes.y) >> p % 4 * 8, scale);
    }
    const int block = row / args.block_rows, r = row % args.block_rows;
    uint8* to = args.tiles +
                ((static_cast<int64>(block) * args.experts + expert) * args.k_tiles + k) *
                    (args.block_rows * 128) +
                r * 128;
#pragma unroll
    for (int c = 0; c < 2; ++c)
      *reinterpret_cast<uint4*>(to + ((part * 2 + c ^ r % 8) << 4)) = {
          pairs[4 * c], pairs[4 * c + 1], pairs[4 * c + 2], pairs[4 * c + 3]};
  }
  if (!args.alpha) return;
  for (int64 i = own; i < static_cast<int64>(listed) * rows; i += all) {
    const int row = static_cast<int>(i % rows), place = static_cast<int>(i / rows);
    const int expert = args.experts_listed ? args.experts_listed[1 + place] : place;
    args.alpha_rows[static_cast<int64>(expert) * rows + row] =
        row < args.tokens ? args.alpha[static_cast<int64>(row) * args.token_stride +
                                       static_cast<int64>(expert) * args.expert_stride] *
                                device::kFp4Factor
                          : 0;
  }
}

}  // namespace switchyard::dense_moe
