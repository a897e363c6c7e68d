#include "formats/nvfp4.cuh"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "base/math.h"
#include "formats/convert.h"
#include "formats/scale_layout.cuh"
#include "switchyard/ops.h"

namespace switchyard::ops {
namespace {

using formats::kNvfp4Block;

void check_args(const QuantizeNvfp4Args& args) {
  const Shape& shape = args.x.shape;
  require(args.x && formats::is_plain_float(args.x.dtype) && shape.rank() == 2,
          "[quantize_nvfp4] x: expected f32, bf16 or f16 [T, n], got {} {}.",
          args.x ? name(args.x.dtype) : "none", to_string(shape));
  require(shape[1] % kNvfp4Block == 0,
          "[quantize_nvfp4] x: expected [T, n] with n in whole blocks of {}, got {}. Pad with "
          "zeros.",
          kNvfp4Block, to_string(shape));
  require(args.encode_scale > 0 && std::isfinite(args.encode_scale),
          "[quantize_nvfp4] encode_scale: expected a positive number, got {}.", args.encode_scale);
  require(args.codes && args.codes.dtype == DType::f4_e2m1 && args.codes.shape == shape,
          "[quantize_nvfp4] codes: expected f4_e2m1 {}, got {} {}.", to_string(shape),
          args.codes ? name(args.codes.dtype) : "none", to_string(args.codes.shape));
  const std::int64_t bytes = scale_bytes(args.layout, shape[0], shape[1] / kNvfp4Block);
  require(static_cast<std::int64_t>(args.scales.size()) == bytes,
          "[quantize_nvfp4] scales: expected {} bytes, got {}. scale_bytes() says how many.", bytes,
          args.scales.size());
  for (std::int64_t i = 0; i < shape.elements(); ++i) {
    const double x = formats::load(args.x.dtype, args.x.data, i);
    if (std::isfinite(x)) continue;
    require(false, "[quantize_nvfp4] x: expected finite values, got {} at [{}, {}].", x,
            i / shape[1], i % shape[1]);
  }
}

}  // namespace

void quantize_nvfp4(const QuantizeNvfp4Args& args) {
  check_args(args);
  const std::int64_t rows = args.x.shape[0], groups = args.x.shape[1] / kNvfp4Block;
  std::vector<std::uint8_t> linear(static_cast<std::size_t>(rows * groups));
  std::array<float, kNvfp4Block> values{};
  for (std::int64_t block = 0; block < rows * groups; ++block) {
    formats::load_run(args.x.dtype, args.x.data, block * kNvfp4Block, kNvfp4Block, values.data());
    float max = 0;
    for (const float x : values) max = std::max(max, std::abs(x));
    const formats::Nvfp4Scale scale = args.recipe == ScaleRecipe::fast
                                          ? formats::nvfp4_scale_fast(max, args.encode_scale)
                                          : formats::nvfp4_scale_exact(max, args.encode_scale);
    linear[static_cast<std::size_t>(block)] = scale.code;
    std::uint8_t* codes = args.codes.as<std::uint8_t>() + block * (kNvfp4Block / 2);
    for (std::size_t i = 0; i < kNvfp4Block; i += 2)
      codes[i / 2] = formats::pack_nibbles(formats::encode_e2m1(values[i] * scale.multiplier),
                                           formats::encode_e2m1(values[i + 1] * scale.multiplier));
  }
  swizzle_scales(args.layout, 1, rows, groups, linear, args.scales);
}

}  // namespace switchyard::ops
