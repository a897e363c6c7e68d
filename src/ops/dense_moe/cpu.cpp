// The dense ops on a CPU: codes to numbers, the definition, numbers to the output type.

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "base/expect.h"
#include "formats/convert.h"
#include "formats/nvfp4.cuh"
#include "ops/dense_moe/problem.h"
#include "ops/nvfp4_arrays.h"
#include "switchyard/ops.h"

namespace switchyard::ops {
namespace {

using formats::kNvfp4Block;
constexpr ScaleLayout kLayout = ScaleLayout::swizzled_128x4;

}  // namespace

void dense_fc1(const DenseFc1Args& args, Device) {
  constexpr std::string_view kWhere = "dense_fc1";
  expect_nvfp4_weights(kWhere, args.weights);
  const std::int64_t experts = args.weights->experts(), hidden = args.weights->in();
  require(args.weights->out() % (2 * kNvfp4Block) == 0,
          "[dense_fc1] weights: expected [E, 2 I, H] with I in whole blocks of {}, got {}.",
          kNvfp4Block, to_string(args.weights->elements.shape()));
  const std::int64_t width = experts * (args.weights->out() / 2);
  const std::int64_t tokens = args.x.shape.rank() == 2 ? args.x.shape[0] : 0;
  expect(kWhere, "x", args.x, {tokens, hidden}, {DType::f4_e2m1});
  expect_scales(kWhere, "x_scales", args.x_scales.size(), kLayout, tokens, hidden);
  expect(kWhere, "alpha", args.alpha, {experts}, {DType::f32});
  if (args.alpha_post)
    expect(kWhere, "alpha_post", args.alpha_post, {tokens, experts}, {DType::f32});
  expect(kWhere, "out", args.out, {tokens, width},
         {DType::f4_e2m1, DType::bf16, DType::f16, DType::f32});
  const bool quantised = args.out.dtype == DType::f4_e2m1;
  if (quantised) {
    expect_scales(kWhere, "out_scales", args.out_scales.size(), kLayout, tokens, width);
    require(args.norm_const > 0 && std::isfinite(args.norm_const),
            "[dense_fc1] norm_const: expected a positive number, got {}.", args.norm_const);
  }

  std::vector<double> y(static_cast<std::size_t>(tokens * width));
  dense_moe::fc1_reference(*args.weights, decode_nvfp4(args.x, args.x_scales, kLayout),
                           floats(args.alpha), floats(args.alpha_post), y);
  if (!quantised)
    return formats::store_run(args.out.dtype, args.out.data, 0, tokens * width, y.data());
  std::ranges::fill(args.out_scales, std::uint8_t{0});
  for (std::int64_t t = 0; t < tokens; ++t)
    encode_nvfp4_row(y, t, args.norm_const, args.out, args.out_scales);
}

void dense_fc2(const DenseFc2Args& args, Device) {
  constexpr std::string_view kWhere = "dense_fc2";
  expect_nvfp4_weights(kWhere, args.weights);
  const std::int64_t experts = args.weights->experts(), hidden = args.weights->out();
  const std::int64_t width = experts * args.weights->in();
  const std::int64_t tokens = args.x.shape.rank() == 2 ? args.x.shape[0] : 0;
  expect(kWhere, "x", args.x, {tokens, width}, {DType::f4_e2m1});
  expect_scales(kWhere, "x_scales", args.x_scales.size(), kLayout, tokens, width);
  expect(kWhere, "alpha", args.alpha,
         args.token_major ? Shape{experts, tokens} : Shape{tokens, experts}, {DType::f32});
  expect(kWhere, "out", args.out, {tokens, hidden}, kPlainFloats);

  std::vector<float> alpha(floats(args.alpha).begin(), floats(args.alpha).end());
  if (args.token_major)
    for (std::int64_t i = 0; i < tokens * experts; ++i)
      alpha[static_cast<std::size_t>(i)] =
          args.alpha.as<float>()[i % experts * tokens + i / experts];
  std::vector<double> y(static_cast<std::size_t>(tokens * hidden));
  dense_moe::fc2_reference(*args.weights, decode_nvfp4(args.x, args.x_scales, kLayout), alpha, y);
  formats::store_run(args.out.dtype, args.out.data, 0, tokens * hidden, y.data());
}

}  // namespace switchyard::ops
