#pragma once

#include <cstdint>
#include <span>

#include "switchyard/ops.h"

/// Grouped GEMMs on NVFP4 activations with the arrays of an engine's own sort, named as
/// TensorRT-LLM's moe_sort names them. Host arrays, CPU. Every function throws InvalidArgument,
/// naming the argument, before it writes anything.
///
///   T tokens, K slots of a token, L local experts, R = tiles * tile permuted rows
namespace switchyard::ops {

/// The (token, slot) pairs sorted by local expert, each expert's rows padded to whole tiles. Only
/// the first `num_non_exiting_tiles` tiles are read, and of a tile the rows below its limit.
struct SortedRows {
  int tile = 128;  ///< rows of a tile, a multiple of 8; 128 or 256 in engines
  int top_k = 1;
  ConstTensorView tile_idx_to_expert_idx;        ///< [tiles]  i32, local
  ConstTensorView tile_idx_to_mn_limit;          ///< [tiles]  i32, end of the expert's valid rows
  ConstTensorView permuted_idx_to_expanded_idx;  ///< [R]  i32, token * K + slot
  ConstTensorView num_non_exiting_tiles;         ///< [1]  i32
};

/// Tiles that any routing of `tokens` tokens may need.
std::int64_t sorted_tiles(std::int64_t tokens, int top_k, int local_experts, int tile);

/// expert_ids [T, K] i32 -> the arrays above for the local experts [first_expert, first_expert +
/// L). Rows of an expert are in the order of their pairs; padding is -1, tiles that nobody needs
/// are 0.
struct MoeSortArgs {
  ConstTensorView expert_ids;  ///< [T, K]  i32; others' experts and -1 have no row
  int first_expert = 0;
  int local_experts = 0;
  int tile = 128;
  TensorView tile_idx_to_expert_idx;        ///< [sorted_tiles()]  i32
  TensorView tile_idx_to_mn_limit;          ///< [sorted_tiles()]  i32
  TensorView expanded_idx_to_permuted_idx;  ///< [T, K]  i32, -1 = no row
  TensorView permuted_idx_to_expanded_idx;  ///< [sorted_tiles() * tile]  i32
  TensorView total_num_padded_tokens;       ///< [1]  i32, rows of the tiles that have any
  TensorView num_non_exiting_tiles;         ///< [1]  i32
};
void moe_sort(const MoeSortArgs& args);

/// out[p, :] = silu(a g) (a u) of row p's token and expert e: g, u = x[token] . w[e], a = alpha[e],
/// gathered from tokens in their own order. Rows that are no pair's keep what they have.
struct GatherFc1Args {
  ConstTensorView x;                       ///< [T, H]  f4_e2m1
  std::span<const std::uint8_t> x_scales;  ///< linear [T, H / 16]
  const ExpertMatrix* weights = nullptr;   ///< nvfp4 [L, 2I, H], gate first; its global scale is
                                           ///< not applied: it is part of alpha
  ConstTensorView alpha;                   ///< [L]  f32
  SortedRows rows;
  float norm_const = 1;                ///< encode scale of a f4_e2m1 output
  TensorView out;                      ///< [R, I]  f4_e2m1 | bf16 | f16 | f32
  std::span<std::uint8_t> out_scales;  ///< swizzled 128x4 of [R, I / 16]; f4_e2m1 output only
};
void gather_fc1(const GatherFc1Args& args, Device device = Device::cpu());

/// out[t, :] = sum over t's rows p of weight[t, slot] alpha[e] (x[p, :] . w[e]). Tokens without a
/// row are zeros.
struct FinalizeFc2Args {
  ConstTensorView x;                       ///< [R, I]  f4_e2m1
  std::span<const std::uint8_t> x_scales;  ///< swizzled 128x4 of [R, I / 16]
  const ExpertMatrix* weights = nullptr;   ///< nvfp4 [L, H, I]; its global scale is not applied
  ConstTensorView alpha;                   ///< [L]  f32
  SortedRows rows;
  ConstTensorView token_final_scales;  ///< [T, K]  f32
  TensorView out;                      ///< [T, H]  bf16 | f16 | f32
};
void finalize_fc2(const FinalizeFc2Args& args, Device device = Device::cpu());

}  // namespace switchyard::ops
