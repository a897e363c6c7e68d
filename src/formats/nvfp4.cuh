#pragma once

#include "formats/fp4.cuh"
#include "formats/fp8.cuh"

// NVFP4: blocks of 16 E2M1 values with an E4M3 scale, and one f32 scale for the whole tensor.
//
//   x ~ e2m1 * scale / encode_scale        encode_scale = 448 * 6 / max|x|
//
// Three recipes make the scale and the factor that elements are multiplied by; they differ in the
// last bit. The scale is rounded to nearest, so an element may exceed 6 before it saturates.
namespace switchyard::formats {

inline constexpr int kNvfp4Block = 16;
inline constexpr float kNvfp4Max = kE4m3Max * kE2m1Max;  // 2688
inline constexpr float kF32Max = 0x1.fffffep127F;

struct Nvfp4Scale {
  uint8 code;        // E4M3, never negative
  float multiplier;  // elements are encode_e2m1(x * multiplier)
};

/// 1 / x with subnormal arguments and results flushed to zero. The hardware's rcp.approx.ftz may
/// differ from it by one unit in the last place.
SWITCHYARD_BOTH constexpr float reciprocal_ftz(float x) {
  const uint32 sign = bits_as<uint32>(x) & 0x80000000U;
  const uint32 magnitude = bits_as<uint32>(x) & 0x7fffffffU;
  if (magnitude < 0x00800000U) return bits_as<float>(sign | 0x7f800000U);
  const float result = 1.0F / x;
  if ((bits_as<uint32>(result) & 0x7fffffffU) < 0x00800000U) return bits_as<float>(sign);
  return result;
}

/// 1 / encode_scale, the global scale of a tensor with this max|x|. All zeros have scale 1; it
/// stays normal so that its reciprocal is finite.
SWITCHYARD_BOTH constexpr float nvfp4_global_scale(float max) {
  if (max == 0) return 1;
  const float scale = max / kNvfp4Max;
  return scale < 0x1p-126F ? 0x1p-126F : scale;
}

/// What engines' quantisation kernels do. A block whose scale underflows to 0 is multiplied by
/// infinity: its codes saturate (0 * inf = NaN becomes +6 too) and decode to 0 through the scale.
SWITCHYARD_BOTH constexpr Nvfp4Scale nvfp4_scale_fast(float block_max, float encode_scale) {
  const uint8 code = encode_e4m3(encode_scale * (block_max * reciprocal_ftz(kE2m1Max)));
  const float multiplier =
      block_max != 0 ? reciprocal_ftz(decode_e4m3(code) * reciprocal_ftz(encode_scale)) : 0.0F;
  return {code, multiplier};
}

/// True divisions; the multiplier is finite, so zeros stay zeros.
SWITCHYARD_BOTH constexpr Nvfp4Scale nvfp4_scale_exact(float block_max, float encode_scale) {
  const uint8 code = encode_e4m3(block_max * (encode_scale * (1.0F / kE2m1Max)));
  const float scale = decode_e4m3(code) * (1.0F / encode_scale);
  return {code, scale > 0x1p-128F ? 1.0F / scale : kF32Max};  // 1 / 2^-128 would overflow
}

/// What fused GEMM epilogues do with their f32 results.
SWITCHYARD_BOTH constexpr Nvfp4Scale nvfp4_scale_epilogue(float block_max, float encode_scale) {
  const uint8 code = encode_e4m3(block_max * (1.0F / kE2m1Max) * encode_scale);
  const float multiplier = encode_scale * reciprocal_ftz(decode_e4m3(code));
  return {code, multiplier < kF32Max ? multiplier : kF32Max};
}

}  // namespace switchyard::formats
