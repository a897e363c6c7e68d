// The dense ops on a CPU: codes to numbers, the definition, numbers to the output type.

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "base/expect.h"
#include "formats/convert.h"
#include "formats/nvfp4.cuh"
#include "formats/scale_layout.cuh"
#include "ops/dense_moe/problem.h"
#include "switchyard/ops.h"

namespace switchyard::ops {
namespace {

using formats::kNvfp4Block;
constexpr ScaleLayout kLayout = ScaleLayout::swizzled_128x4;

void expect_scales(std::string_view where, std::string_view what, std::size_t bytes,
                   std::int64_t rows, std::int64_t cols) {
  const std::int64_t expected = scale_bytes(kLayout, rows, cols / kNvfp4Block);
  require(static_cast<std::int64_t>(bytes) == expected,
          "[{}] {}: expected {} bytes (swizzled 128x4 of [{}, {}]), got {}.", where, what, expected,
          rows, cols / kNvfp4Block, bytes);
}

void expect_weights(std::string_view where, const ExpertMatrix* weights) {
  require(weights && *weights, "[{}] weights: expected a matrix, got none.", where);
  check(*weights, "weights");
  require(weights->format == weight_format("nvfp4"), "[{}] weights: expected nvfp4, got {}.", where,
          to_string(weights->format));
  require(weights->experts() > 0, "[{}] weights: expected at least one expert, got {}.", where,
          to_string(weights->elements.shape()));
}

/// e2m1 * scale for [rows, cols]
std::vector<double> decode(ConstTensorView codes, std::span<const std::uint8_t> scales) {
  const std::int64_t rows = codes.shape[0], cols = codes.shape[1];
  std::vector<double> values(static_cast<std::size_t>(rows * cols));
  formats::load_run(codes.dtype, codes.data, 0, rows * cols, values.data());
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    const std::int64_t at =
        formats::offset_128x4(i / cols, i % cols / kNvfp4Block, cols / kNvfp4Block);
    values[static_cast<std::size_t>(i)] *=
        static_cast<double>(formats::decode_e4m3(scales[static_cast<std::size_t>(at)]));
  }
  return values;
}

/// The epilogue's quantisation (spec 1.3) of [rows, cols] f32 values.
void encode(const std::vector<double>& values, float norm_const, TensorView codes,
            std::span<std::uint8_t> scales) {
  const std::int64_t cols = codes.shape[1];
  std::ranges::fill(scales, std::uint8_t{0});
  for (std::size_t first = 0; first < values.size(); first += kNvfp4Block) {
    float max = 0;
    for (std::size_t i = first; i < first + kNvfp4Block; ++i)
      max = std::max(max, std::abs(static_cast<float>(values[i])));
    const formats::Nvfp4Scale scale = formats::nvfp4_scale_epilogue(max, norm_const);
    const auto at = static_cast<std::int64_t>(first);
    scales[static_cast<std::size_t>(formats::offset_128x4(at / cols, at % cols / kNvfp4Block,
                                                          cols / kNvfp4Block))] = scale.code;
    for (std::size_t i = first; i < first + kNvfp4Block; i += 2)
      codes.as<std::uint8_t>()[i / 2] = formats::pack_nibbles(
          formats::encode_e2m1(static_cast<float>(values[i]) * scale.multiplier),
          formats::encode_e2m1(static_cast<float>(values[i + 1]) * scale.multiplier));
  }
}

std::span<const float> floats(ConstTensorView view) {
  return {view.as<float>(), view ? static_cast<std::size_t>(view.shape.elements()) : 0};
}

}  // namespace

void dense_fc1(const DenseFc1Args& args, Device) {
  constexpr std::string_view kWhere = "dense_fc1";
  expect_weights(kWhere, args.weights);
  const std::int64_t experts = args.weights->experts(), hidden = args.weights->in();
  require(args.weights->out() % (2 * kNvfp4Block) == 0,
          "[dense_fc1] weights: expected [E, 2 I, H] with I in whole blocks of {}, got {}.",
          kNvfp4Block, to_string(args.weights->elements.shape()));
  const std::int64_t width = experts * (args.weights->out() / 2);
  const std::int64_t tokens = args.x.shape.rank() == 2 ? args.x.shape[0] : 0;
  expect(kWhere, "x", args.x, {tokens, hidden}, {DType::f4_e2m1});
  expect_scales(kWhere, "x_scales", args.x_scales.size(), tokens, hidden);
  expect(kWhere, "alpha", args.alpha, {experts}, {DType::f32});
  if (args.alpha_post)
    expect(kWhere, "alpha_post", args.alpha_post, {tokens, experts}, {DType::f32});
  expect(kWhere, "out", args.out, {tokens, width},
         {DType::f4_e2m1, DType::bf16, DType::f16, DType::f32});
  const bool quantised = args.out.dtype == DType::f4_e2m1;
  if (quantised) {
    expect_scales(kWhere, "out_scales", args.out_scales.size(), tokens, width);
    require(args.norm_const > 0 && std::isfinite(args.norm_const),
            "[dense_fc1] norm_const: expected a positive number, got {}.", args.norm_const);
  }

  std::vector<double> y(static_cast<std::size_t>(tokens * width));
  dense_moe::fc1_reference(*args.weights, decode(args.x, args.x_scales), floats(args.alpha),
                           floats(args.alpha_post), y);
  if (quantised)
    encode(y, args.norm_const, args.out, args.out_scales);
  else
    formats::store_run(args.out.dtype, args.out.data, 0, tokens * width, y.data());
}

void dense_fc2(const DenseFc2Args& args, Device) {
  constexpr std::string_view kWhere = "dense_fc2";
  expect_weights(kWhere, args.weights);
  const std::int64_t experts = args.weights->experts(), hidden = args.weights->out();
  const std::int64_t width = experts * args.weights->in();
  const std::int64_t tokens = args.x.shape.rank() == 2 ? args.x.shape[0] : 0;
  expect(kWhere, "x", args.x, {tokens, width}, {DType::f4_e2m1});
  expect_scales(kWhere, "x_scales", args.x_scales.size(), tokens, width);
  expect(kWhere, "alpha", args.alpha,
         args.token_major ? Shape{experts, tokens} : Shape{tokens, experts}, {DType::f32});
  expect(kWhere, "out", args.out, {tokens, hidden}, kPlainFloats);

  std::vector<float> alpha(floats(args.alpha).begin(), floats(args.alpha).end());
  if (args.token_major)
    for (std::int64_t i = 0; i < tokens * experts; ++i)
      alpha[static_cast<std::size_t>(i)] =
          args.alpha.as<float>()[i % experts * tokens + i / experts];
  std::vector<double> y(static_cast<std::size_t>(tokens * hidden));
  dense_moe::fc2_reference(*args.weights, decode(args.x, args.x_scales), alpha, y);
  formats::store_run(args.out.dtype, args.out.data, 0, tokens * hidden, y.data());
}

}  // namespace switchyard::ops
