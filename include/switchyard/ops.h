#pragma once

#include <cstdint>
#include <span>

#include "switchyard/device.h"
#include "switchyard/moe.h"
#include "switchyard/tensor.h"
#include "switchyard/weights.h"

/// The single operations of the layer, for engines that bring their own flow. Host arrays, CPU.
/// Every function throws InvalidArgument, naming the argument, before it writes anything.
namespace switchyard::ops {

/// logits [T, E] f32 | bf16 | f16 -> expert_ids [T, K] i32 and expert_weights [T, K] f32, ordered
/// as selected. Ties go to the lower index; NaN logits rank last.
struct RouteArgs {
  ConstTensorView logits;
  ConstTensorView correction_bias;  ///< [E]  f32, optional
  ConstTensorView input_ids;        ///< [T]  i32 | i64, hash only
  ConstTensorView hash_table;       ///< [vocabulary, K]  i32, hash only
  TensorView expert_ids;
  TensorView expert_weights;
};
MoeCounters route(const Routing& routing, const RouteArgs& args, Device device = Device::cpu());

/// Byte order of block scales [rows, cols]: row-major, or tiles that tensor cores read
/// (swizzled 128x4 and 8x4: docs/formats.md).
enum class ScaleLayout { linear, swizzled_128x4, swizzled_8x4 };

/// Bytes that `layout` needs for [rows, cols] scales of one byte.
std::int64_t scale_bytes(ScaleLayout layout, std::int64_t rows, std::int64_t cols) noexcept;
/// linear [batch, rows, cols] -> layout (padding is zero), and back.
void swizzle_scales(ScaleLayout layout, std::int64_t batch, std::int64_t rows, std::int64_t cols,
                    std::span<const std::uint8_t> linear, std::span<std::uint8_t> swizzled);
void unswizzle_scales(ScaleLayout layout, std::int64_t batch, std::int64_t rows, std::int64_t cols,
                      std::span<const std::uint8_t> swizzled, std::span<std::uint8_t> linear);
/// [parts, rows, cols], each part in `layout` -> one matrix [parts * rows, cols] in `layout`,
/// without the padding between parts.
void merge_scales(ScaleLayout layout, std::int64_t parts, std::int64_t rows, std::int64_t cols,
                  std::span<const std::uint8_t> in, std::span<std::uint8_t> out);

/// x [T, n] f32 | bf16 | f16 -> codes [T, n] f4_e2m1, scales (bytes in `layout`);
/// encode_scale = 2688 / amax(x) is the usual choice.
struct QuantizeNvfp4Args {
  ConstTensorView x;
  float encode_scale = 1;
  ScaleRecipe recipe = ScaleRecipe::fast;
  ScaleLayout layout = ScaleLayout::linear;
  TensorView codes;
  std::span<std::uint8_t> scales;
};
void quantize_nvfp4(const QuantizeNvfp4Args& args);

/// fc2_alpha of the DenseGEMM family: out[t, e] = weight[t, j] * alpha[e] (/ alpha_max) for e =
/// ids[t, j], else 0. Token-major memory (expert stride T) if `token_major`.
struct Fc2AlphaArgs {
  ConstTensorView expert_ids;      ///< [T, K]  i32, -1 = none
  ConstTensorView expert_weights;  ///< [T, K]  f32
  ConstTensorView alpha;           ///< [E]  f32
  float alpha_max = 0;             ///< 0 = do not divide
  bool token_major = false;
  TensorView out;  ///< [T, E] f32, or [E, T] if token_major
};
void fc2_alpha(const Fc2AlphaArgs& args);

/// Dense FC1 over all experts: y[t, e I + j] = silu(a g) (a u) post, a = alpha[e], NVFP4 x NVFP4.
struct DenseFc1Args {
  ConstTensorView x;                       ///< [T, H]  f4_e2m1
  std::span<const std::uint8_t> x_scales;  ///< swizzled 128x4 of [T, H / 16]
  const ExpertMatrix* weights = nullptr;   ///< nvfp4 [E, 2I, H], gate first; its global scale is
                                           ///< not applied: it is part of alpha
  ConstTensorView alpha;                   ///< [E]  f32
  ConstTensorView alpha_post;              ///< [T, E]  f32, optional
  float norm_const = 1;                    ///< encode scale of a f4_e2m1 output
  TensorView out;                          ///< [T, E I]  f4_e2m1 | bf16 | f16 | f32
  std::span<std::uint8_t> out_scales;      ///< swizzled 128x4 of [T, E I / 16]; f4_e2m1 output only
};
void dense_fc1(const DenseFc1Args& args, Device device = Device::cpu());

/// Dense FC2: out[t, h] = sum over e of alpha[t, e] * (x[t, e I ..] . w[e, h, :]).
struct DenseFc2Args {
  ConstTensorView x;                       ///< [T, E I]  f4_e2m1
  std::span<const std::uint8_t> x_scales;  ///< swizzled 128x4 of [T, E I / 16]
  const ExpertMatrix* weights = nullptr;   ///< nvfp4 [E, H, I]; its global scale is not applied
  ConstTensorView alpha;                   ///< [T, E] f32, or [E, T] if token_major
  bool token_major = false;
  TensorView out;  ///< [T, H]  bf16 | f16 | f32
};
void dense_fc2(const DenseFc2Args& args, Device device = Device::cpu());

/// Rows of the batch grouped by expert, stable in (token, slot).
/// offsets [E + 1] i64 and rows [T K] i32: rows[offsets[e] .. offsets[e + 1]) are token * K + slot.
void group_by_expert(ConstTensorView expert_ids, TensorView offsets, TensorView rows);

/// y[r, :] = activation(x[token(r), :] . w[e]^T + bias[e]) for grouped rows r of expert e, or
/// without the activation if `activation` is null. x row is rows[r] / top_k (or r if rows is
/// absent).
struct GroupedGemmArgs {
  ConstTensorView x;        ///< [T, in] or [R, in]  f32 | bf16 | f16
  ConstTensorView offsets;  ///< [E + 1]  i64
  ConstTensorView rows;     ///< [R]  i32, optional
  int top_k = 1;
  const ExpertMatrix* weights = nullptr;
  const Activation* activation = nullptr;
  TensorView out;  ///< [R, I or out]  f32 | bf16 | f16
};
void grouped_gemm(const GroupedGemmArgs& args, Device device = Device::cpu());

/// out[t, :] = sum over j in order of weight[t, j] * expert_out[row of (t, j), :]; -1 slots are
/// left out. `rows` as group_by_expert made it.
struct FinalizeArgs {
  ConstTensorView expert_out;      ///< [R, H]  f32 | bf16 | f16
  ConstTensorView rows;            ///< [R]  i32
  ConstTensorView expert_weights;  ///< [T, K]  f32
  TensorView out;                  ///< [T, H]  f32 | bf16 | f16
};
void finalize(const FinalizeArgs& args, Device device = Device::cpu());

}  // namespace switchyard::ops
