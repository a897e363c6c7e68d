// NVFP4 activations with swizzled scales -> bf16 tiles, exactly; and alpha in parts (FC2). All CTAs
// do a share, before they pass a barrier of the grid; weights are on their way meanwhile. A thread
// has a block of 16 columns at a time: reads 9 bytes, writes 32.
#pragma once

#include "device/half.cuh"
#include "device/ptx.cuh"
#include "formats/nvfp4.cuh"
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

__device__ inline AlphaParts alpha_of(const Activations& args, int row, int expert) {
  return split_alpha(args.alpha[static_cast<int64>(row) * args.token_stride +
                                static_cast<int64>(expert) * args.expert_stride]);
}
__device__ inline float power_of(const Activations& args, int row, int expert) {
  return args.alpha ? alpha_of(args, row, expert).power : 1;
}
__device__ inline int listed(const Activations& args, int place) {
  return args.experts_listed ? args.experts_listed[1 + place] : place;
}

/// 16 columns of a token: codes, and their scale.
struct Block {
  uint2 codes;
  uint8 scale;
};

__device__ inline Block quantise(const uint16* tokens, float encode_scale) {
  float values[16], largest = 0;
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    values[i] = device::to_f32<Half::bf16>(tokens[i]);
    largest = fmaxf(largest, fabsf(values[i]));
  }
  const formats::Nvfp4Scale scale = formats::nvfp4_scale_fast(largest, encode_scale);
  uint32 codes[2] = {};
#pragma unroll
  for (int i = 0; i < 16; ++i)
    codes[i / 8] |= static_cast<uint32>(formats::encode_e2m1(values[i] * scale.multiplier))
                    << 4 * (i % 8);
  return {{codes[0], codes[1]}, scale.code};
}

/// At a multiple of 16 columns of [T, columns].
template <bool kQuantise>
__device__ inline Block block_at(const Activations& args, int64 row, int64 columns, int64 column) {
  if constexpr (kQuantise) {
    return quantise(args.tokens + row * columns + column, args.encode_scale);
  } else {
    return {*reinterpret_cast<const uint2*>(args.codes + (row * columns + column) / 2),
            args.scales[formats::offset_128x4(row, column / 16, columns / 16)]};
  }
}

/// Columns 16 * sixteenth and on of k tile `k` of an expert, of one token.
struct Sixteenth {
  int row, expert, k, sixteenth;
  __device__ int column() const { return k * 64 + sixteenth * 16; }
};
__device__ inline Sixteenth place(const Activations& args, uint32 i, uint32 rows) {
  const uint32 tile = i / 4 / rows, place = tile / args.k_tiles;
  return {static_cast<int>(i / 4 - tile * rows), listed(args, place),
          static_cast<int>(tile - place * args.k_tiles), static_cast<int>(i % 4)};
}

/// What a place's bf16 are made of; zeros beyond the matrix.
struct Source {
  Block block;
  float power;
};
template <bool kQuantise>
__device__ inline Source load(const Activations& args, const Sixteenth& at) {
  if (at.row >= args.token_count || at.column() >= args.width) return {};
  return {block_at<kQuantise>(args, at.row, static_cast<int64>(args.experts) * args.width,
                              static_cast<int64>(at.expert) * args.width + at.column()),
          power_of(args, at.row, at.expert)};
}
__device__ inline void store(const Activations& args, const Sixteenth& at, const Source& from) {
  const int block = at.row / args.block_rows, r = at.row - block * args.block_rows;
  const uint32 scale =
      device::from_f32<Half::bf16>(formats::decode_e4m3(from.block.scale)) * 0x10001u;
  const uint32 power = device::from_f32<Half::bf16>(from.power) * 0x10001u;
  uint32 pairs[8];
#pragma unroll
  for (int p = 0; p < 8; ++p)
    pairs[p] =
        decode_pair((p < 4 ? from.block.codes.x : from.block.codes.y) >> p % 4 * 8, scale, power);
  const int64 tile = (static_cast<int64>(block) * args.experts + at.expert) * args.k_tiles + at.k;
  uint8* to = args.tiles + (tile * args.block_rows + r) * 128;
#pragma unroll
  for (int c = 0; c < 2; ++c)
    *reinterpret_cast<uint4*>(to + ((at.sixteenth * 2 + c ^ r % 8) << 4)) = {
        pairs[4 * c], pairs[4 * c + 1], pairs[4 * c + 2], pairs[4 * c + 3]};
}

/// The share of thread `own` of `all`. Memory answers late: kAtOnce loads are under way together.
template <bool kQuantise, int kAtOnce>
__device__ inline void decode_tokens(const Activations& args, uint32 own, uint32 all,
                                     uint32 experts, uint32 rows) {
  const uint32 count = experts * args.k_tiles * rows * 4;
  for (uint32 first = own; first < count; first += kAtOnce * all) {
    Source from[kAtOnce];
#pragma unroll
    for (uint32 j = 0; j < kAtOnce; ++j)
      if (const uint32 i = first + j * all; i < count)
        from[j] = load<kQuantise>(args, place(args, i, rows));
#pragma unroll
    for (uint32 j = 0; j < kAtOnce; ++j)
      if (const uint32 i = first + j * all; i < count) store(args, place(args, i, rows), from[j]);
  }
}

/// The share of thread `own` of `all`.
template <int kAtOnce>
__device__ inline void decode(const Activations& args, uint32 own, uint32 all) {
  const uint32 experts = args.experts_listed ? *args.experts_listed : args.experts;
  const uint32 rows = args.blocks * args.block_rows;
  if (args.tokens)
    decode_tokens<true, 1>(args, own, all, experts, rows);
  else
    decode_tokens<false, kAtOnce>(args, own, all, experts, rows);
  if (!args.alpha) return;
  for (uint32 i = own; i < experts * rows; i += all) {
    const int place = static_cast<int>(i / rows), row = static_cast<int>(i - place * rows);
    const int expert = listed(args, place);
    const int64 at = static_cast<int64>(expert) * rows + row;
    const bool there = row < args.token_count;
    const float rest = there ? alpha_of(args, row, expert).rest : 1;
    const float before = there && place > 0 ? alpha_of(args, row, listed(args, place - 1)).rest : 1;
    args.steps[at] = before / rest;
    args.rests[at] = rest * device::kFp4Factor;
  }
}

}  // namespace switchyard::dense_moe
