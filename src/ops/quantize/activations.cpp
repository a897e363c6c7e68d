#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "formats/bf16.cuh"
#include "formats/fp16.cuh"
#include "formats/fp8_block.cuh"
#include "formats/mxfp8.cuh"
#include "formats/nvfp4.cuh"
#include "ops/quantize/quantize.h"

namespace switchyard::ops {
namespace {

using namespace formats;

template <class T>
float max_abs(const T* values, std::int64_t count) {
  float max = 0;
  for (std::int64_t i = 0; i < count; ++i)
    max = std::max(max, std::abs(static_cast<float>(values[i])));
  return max;
}

template <class T, class Round>
void transform(const T* in, std::int64_t count, T* out, Round round) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = round(in[i]);
}

/// Calls visit(first, count) for each block of a row.
template <class Visit>
void for_blocks(const ActivationRounding& rounding, std::int64_t block, Visit visit) {
  for (std::int64_t r = 0; r < rounding.rows; ++r)
    for (std::int64_t c = 0; c < rounding.cols; c += block)
      visit(r * rounding.cols + c, std::min(block, rounding.cols - c));
}

template <class T>
void round_fp8(const T* in, std::int64_t count, float scale, T* out) {
  transform(in, count, out, [scale](T x) {
    return static_cast<T>(decode_e4m3(encode_fp8(static_cast<float>(x), scale))) *
           static_cast<T>(scale);
  });
}

template <class T>
void round_fp8_blocks(const ActivationRounding& rounding, std::int64_t block, const T* in, T* out) {
  for_blocks(rounding, block, [&](std::int64_t first, std::int64_t count) {
    round_fp8(in + first, count, fp8_scale(max_abs(in + first, count)), out + first);
  });
}

template <class T>
void round_mxfp8(const ActivationRounding& rounding, const T* in, T* out) {
  for_blocks(rounding, kMxfp8Block, [&](std::int64_t first, std::int64_t count) {
    const uint8 code = mxfp8_scale(max_abs(in + first, count));
    const float multiplier = e8m0_multiplier(code);
    const auto scale = static_cast<T>(decode_e8m0(code));
    transform(in + first, count, out + first, [=](T x) {
      return static_cast<T>(decode_e4m3(encode_e4m3(static_cast<float>(x) * multiplier))) * scale;
    });
  });
}

template <class T>
void round_nvfp4(const ActivationRounding& rounding, const T* in, T* out) {
  const float global =
      rounding.input_scale.value_or(nvfp4_global_scale(max_abs(in, rounding.rows * rounding.cols)));
  for_blocks(rounding, kNvfp4Block, [&](std::int64_t first, std::int64_t count) {
    const Nvfp4Scale block = nvfp4_scale_fast(max_abs(in + first, count), 1.0F / global);
    const float scale = decode_e4m3(block.code);
    transform(in + first, count, out + first, [=](T x) {
      const float q = decode_e2m1(encode_e2m1(static_cast<float>(x) * block.multiplier));
      return static_cast<T>(q * scale) * static_cast<T>(global);
    });
  });
}

}  // namespace

template <class T>
void round_activations(const ActivationRounding& rounding, const T* in, T* out, const char* where) {
  const std::int64_t count = rounding.rows * rounding.cols;
  const std::optional<float>& scale = rounding.input_scale;
  const bool reads_scale =
      rounding.format == ActivationFormat::fp8_tensor || rounding.format == ActivationFormat::nvfp4;
  require(!reads_scale || !scale || (*scale > 0 && std::isfinite(*scale)),
          "[{}] input_scale: expected a positive number, got {}.", where, scale.value_or(0));
  switch (rounding.format) {
    case ActivationFormat::f32:
      return transform(in, count, out, [](T x) { return static_cast<T>(static_cast<float>(x)); });
    case ActivationFormat::bf16:
      return transform(in, count, out,
                       [](T x) { return static_cast<T>(decode_bf16(encode_bf16(x))); });
    case ActivationFormat::fp16:
      return transform(in, count, out,
                       [](T x) { return static_cast<T>(decode_fp16(encode_fp16(x))); });
    case ActivationFormat::fp8_tensor:
      return round_fp8(in, count, scale.value_or(fp8_scale(max_abs(in, count))), out);
    case ActivationFormat::fp8_token:
      return round_fp8_blocks(rounding, rounding.cols, in, out);
    case ActivationFormat::fp8_block:
      return round_fp8_blocks(rounding, kFp8Block, in, out);
    case ActivationFormat::nvfp4:
      return round_nvfp4(rounding, in, out);
    case ActivationFormat::mxfp8:
      return round_mxfp8(rounding, in, out);
  }
}

template void round_activations(const ActivationRounding&, const float*, float*, const char*);
template void round_activations(const ActivationRounding&, const double*, double*, const char*);

}  // namespace switchyard::ops
