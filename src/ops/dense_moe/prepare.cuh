// NVFP4 activations with swizzled scales -> bf16 tiles, exactly; and alpha by expert (FC2).
//
//   grid   as many CTAs as SMs   block  128, few registers: fits beside the kernel before it;
//          a thread has a block of 16 columns at a time
//   reads 9 bytes a block, writes 32; a launch of microseconds beside the weights
#pragma once

#include "device/half.cuh"
#include "device/ptx.cuh"
#include "formats/fp8.cuh"
#include "formats/scale_layout.cuh"
#include "ops/dense_moe/shared.cuh"

namespace switchyard::dense_moe {

/// Two neighbouring codes, the even one in the low nibble, times a scale and a power of two: a pair
/// of bf16, exactly. `scale` and `power` are pairs too.
__device__ inline uint32 decode_pair(uint32 codes, uint32 scale, uint32 power) {
  constexpr uint32 k2To126 = 0x7e807e80;  // the codes as bf16 are that much too small
  return ptx::multiply_bf16x2(
      ptx::multiply_bf16x2(ptx::multiply_bf16x2(device::widen_fp4(codes), k2To126), scale), power);
}

__device__ inline AlphaParts alpha_of(const PrepareArgs& args, int row, int expert) {
  return split_alpha(args.alpha[static_cast<int64>(row) * args.token_stride +
                                static_cast<int64>(expert) * args.expert_stride]);
}
__device__ inline float power_of(const PrepareArgs& args, int row, int expert) {
  return args.alpha ? alpha_of(args, row, expert).power : 1;
}
__device__ inline int listed(const PrepareArgs& args, int place) {
  return args.experts_listed ? args.experts_listed[1 + place] : place;
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads, 2048 / kThreads)
    prepare(const __grid_constant__ PrepareArgs args) {
  ptx::launch_dependents();
  ptx::wait_previous_kernel();
  const int64 all = static_cast<int64>(gridDim.x) * kThreads;
  const int64 own = static_cast<int64>(blockIdx.x) * kThreads + threadIdx.x;
  const int experts = args.experts_listed ? *args.experts_listed : args.experts;
  const int rows = args.blocks * args.block_rows;
  const int64 columns = static_cast<int64>(args.experts) * args.width;
  // Blocks of 16 of a tile's row, then rows, then tiles.
  const int64 count = static_cast<int64>(experts) * args.k_tiles * rows * 4;
  for (int64 i = own; i < count; i += all) {
    const int part = static_cast<int>(i % 4);
    const int64 rest = i / 4;
    const int row = static_cast<int>(rest % rows), tile = static_cast<int>(rest / rows);
    const int place = tile / args.k_tiles, k = tile - place * args.k_tiles;
    const int expert = listed(args, place);
    const int column = k * 64 + part * 16;
    uint32 pairs[8] = {};
    if (row < args.tokens && column < args.width) {
      const int64 at = static_cast<int64>(expert) * args.width + column;
      const uint2 codes = *reinterpret_cast<const uint2*>(args.codes + (row * columns + at) / 2);
      const uint8 code = args.scales[formats::offset_128x4(row, at / 16, columns / 16)];
      const uint32 scale = device::from_f32<Half::bf16>(formats::decode_e4m3(code)) * 0x10001u;
      const uint32 power = device::from_f32<Half::bf16>(power_of(args, row, expert)) * 0x10001u;
#pragma unroll
      for (int p = 0; p < 8; ++p)

        pairs[p] = decode_pair((p < 4 ? codes.x : codes.y) >> p % 4 * 8, scale, power);
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
  for (int64 i = own; i < static_cast<int64>(experts) * rows; i += all) {
    const int row = static_cast<int>(i % rows), place = static_cast<int>(i / rows);
    const int expert = listed(args, place);
    const int64 at = static_cast<int64>(expert) * rows + row;
    const bool there = row < args.tokens;
    const float rest = there ? alpha_of(args, row, expert).rest : 1;
    const float before = there && place > 0 ? alpha_of(args, row, listed(args, place - 1)).rest : 1;
    args.steps[at] = before / rest;
    args.rests[at] = rest * device::kFp4Factor;
  }
}

}  // namespace switchyard::dense_moe
