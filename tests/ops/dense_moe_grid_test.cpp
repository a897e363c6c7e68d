// The 384 cases of the dense FC1 and the 180 of FC2 that a DenseGEMM must pass (spec 10.1, 10.2),
// against plain loops that round to bf16 where TensorRT-LLM's test does. Every combination runs.
// What is shrunk: a case of more than 2 * 10^5 multiplications has its widths and its tokens halved
// until it has fewer; experts, flags and the order of the sizes stay.
#include <gtest/gtest.h>

#include <cmath>

#include "formats/bf16.cuh"
#include "formats/convert.h"
#include "formats/scale_layout.cuh"
#include "switchyard/ops.h"
#include "tests/ops/dense_moe_data.h"
#include "tests/support/tiny.h"

namespace switchyard {
namespace {

using testing::integers;
using testing::kDenseScales;
using testing::Quantised;
using testing::quantised;

struct Size {
  int experts, rows, tokens, width;  // rows of the weights and their width: a GEMM's N and K

  std::int64_t multiplications() const { return std::int64_t{experts} * rows * tokens * width; }
};

/// Halves the largest size that can be: GEMM sides stay multiples of 32, tokens stay 3 or more.
Size shrunk(Size size) {
  while (size.multiplications() > 200'000) {
    int* largest = nullptr;
    for (int* const side : {&size.rows, &size.width, &size.tokens}) {
      const bool can = side == &size.tokens ? *side >= 6 : *side % 64 == 0;
      if (can && (largest == nullptr || *side > *largest)) largest = side;
    }
    if (largest == nullptr) return size;
    *largest /= 2;
  }
  return size;
}

double bf16(double value) {
  return static_cast<double>(formats::decode_bf16(formats::encode_bf16(value)));
}

/// x * input_scale, decoded: [T, width]
std::vector<double> decoded(const Quantised& x, double input_scale) {
  const std::int64_t cols = x.codes.shape()[1];
  std::vector<double> values(static_cast<std::size_t>(x.codes.shape().elements()));
  for (std::int64_t i = 0; i < x.codes.shape().elements(); ++i) {
    const std::int64_t at = formats::offset_128x4(i / cols, i % cols / 16, cols / 16);
    values[static_cast<std::size_t>(i)] = formats::load(DType::f4_e2m1, x.codes.data(), i) *
                                          input_scale *
                                          formats::load(DType::f8_e4m3, x.scales.data(), at);
  }
  return values;
}

/// One expert's product for one token: x [width] . w [row, width]
double dot(const double* x, const float* w, std::int64_t width) {
  double sum = 0;
  for (std::int64_t c = 0; c < width; ++c) sum += x[c] * static_cast<double>(w[c]);
  return sum;
}

ExpertMatrix random_weights(int experts, int rows, int width) {
  return quantize(integers({experts, rows, width}, 4).view(), weight_format("nvfp4"), 1,
                  ScaleRecipe::fast);
}

/// What a case of FC1 computes, [T, E I], in plain loops.
Tensor fc1_definition(const Size& s, const ExpertMatrix& weights, const std::vector<double>& x,
                      const float* post) {
  const Tensor w = dequantize(weights, DType::f32);
  const std::int64_t inner = s.rows / 2;
  Tensor y(DType::f32, {s.tokens, s.experts * inner});
  for (std::int64_t t = 0; t < s.tokens; ++t)
    for (std::int64_t e = 0; e < s.experts; ++e)
      for (std::int64_t i = 0; i < inner; ++i) {
        const double* const row = x.data() + t * s.width;
        const float* const matrix = w.as<float>() + e * s.rows * s.width;
        const double gate = bf16(dot(row, matrix + i * s.width, s.width));
        const double up = bf16(dot(row, matrix + (inner + i) * s.width, s.width));
        const double factor = post ? static_cast<double>(post[t * s.experts + e]) : 1;
        y.as<float>()[(t * s.experts + e) * inner + i] =
            static_cast<float>(gate / (1 + std::exp(-gate)) * up * factor);
      }
  return y;
}

/// Codes within one step (the next code of the same sign) and scale bytes within one.
void expect_same_codes(const Tensor& codes, const std::vector<std::uint8_t>& scales,
                       const Quantised& expected) {
  const std::int64_t cols = codes.shape()[1], count = codes.shape().elements();
  std::int64_t near_codes = 0, near_scales = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double a = formats::load(DType::f4_e2m1, codes.data(), i);
    const double b = formats::load(DType::f4_e2m1, expected.codes.data(), i);
    near_codes += std::abs(a - b) <= std::max(0.5, std::abs(b) / 2) ? 1 : 0;
    if (i % 16 != 0) continue;
    const auto at =
        static_cast<std::size_t>(formats::offset_128x4(i / cols, i % cols / 16, cols / 16));
    near_scales += std::abs(scales[at] - expected.scales[at]) <= 1 ? 1 : 0;
  }
  EXPECT_GT(static_cast<double>(near_codes), 0.95 * static_cast<double>(count));
  EXPECT_GT(static_cast<double>(near_scales), 0.95 * static_cast<double>(count / 16));
}

float largest_of(const Tensor& tensor) {
  float largest = 0;
  for (std::int64_t i = 0; i < tensor.shape().elements(); ++i)
    largest = std::max(largest, std::abs(tensor.as<float>()[i]));
  return largest;
}

void run_fc1(const Size& s, bool post) {
  const ExpertMatrix weights = random_weights(s.experts, s.rows, s.width);
  const Tensor tokens = integers({s.tokens, s.width}, 5);
  const float input_scale = largest_of(tokens) / 2688;
  const Quantised x = quantised(tokens, 1 / input_scale);
  Tensor alpha(DType::f32, {s.experts}), posts(DType::f32, {s.tokens, s.experts});
  for (int e = 0; e < s.experts; ++e)
    alpha.as<float>()[e] = weights.global_scale.as<float>()[e] * input_scale;
  for (std::int64_t i = 0; i < posts.shape().elements(); ++i)
    posts.as<float>()[i] = 1 + 0.2F * Random(6).uniform(static_cast<std::uint64_t>(i));
  const Tensor expected = fc1_definition(s, weights, decoded(x, static_cast<double>(input_scale)),
                                         post ? posts.as<float>() : nullptr);
  const float norm_const = 2688 / largest_of(expected);
  const Quantised quantised_expected = quantised(expected, norm_const);
  Tensor out(DType::f4_e2m1, expected.shape());
  std::vector<std::uint8_t> scales(quantised_expected.scales.size());
  ops::DenseFc1Args args{.x = x.codes.view(),
                         .x_scales = x.scales,
                         .weights = &weights,
                         .alpha = alpha.view(),
                         .alpha_post = {},
                         .norm_const = norm_const,
                         .out = out.view(),
                         .out_scales = scales};
  if (post) args.alpha_post = posts.view();
  ops::dense_fc1(args);
  expect_same_codes(out, scales, quantised_expected);
}

TEST(DenseGrid, Fc1) {
  int cases = 0;
  for (const int experts : {1, 4, 8, 32})
    for (const int rows : {256, 512, 1024, 2816})
      for (const int tokens : {1, 8, 127, 256})
        for (const int width : {256, 512, 2048})
          for (const bool post : {true, false}) {
            SCOPED_TRACE(::testing::Message() << "E " << experts << " 2I " << rows << " M "
                                              << tokens << " K " << width << " post " << post);
            run_fc1(shrunk({experts, rows, tokens, width}), post);
            ++cases;
          }
  EXPECT_EQ(cases, 384);
}

/// y[t, h] in bf16, summed over the experts in bf16 as the original test does.
std::vector<double> fc2_definition(const Size& s, const ExpertMatrix& weights,
                                   const std::vector<double>& x, const Tensor& alpha) {
  const Tensor w = dequantize(weights, DType::f32);
  std::vector<double> y;
  for (std::int64_t t = 0; t < s.tokens; ++t)
    for (std::int64_t h = 0; h < s.rows; ++h) {
      double sum = 0;
      for (std::int64_t e = 0; e < s.experts; ++e) {
        const double product = bf16(dot(x.data() + (t * s.experts + e) * s.width,
                                        w.as<float>() + (e * s.rows + h) * s.width, s.width));
        sum = bf16(sum + bf16(product * static_cast<double>(alpha.as<float>()[t * s.experts + e])));
      }
      y.push_back(sum);
    }
  return y;
}

void run_fc2(const Size& s) {
  const ExpertMatrix weights = random_weights(s.experts, s.rows, s.width);
  const Tensor tokens = integers({s.tokens, s.experts * s.width}, 5);
  const float input_scale = largest_of(tokens) / 2688;
  const Quantised x = quantised(tokens, 1 / input_scale);
  Tensor factors(DType::f32, {s.tokens, s.experts}), alpha(DType::f32, {s.tokens, s.experts});
  Tensor turned(DType::f32, {s.experts, s.tokens});
  for (std::int64_t i = 0; i < factors.shape().elements(); ++i) {
    const std::int64_t t = i / s.experts, e = i % s.experts;
    factors.as<float>()[i] = 1 + Random(6).uniform(static_cast<std::uint64_t>(i));
    alpha.as<float>()[i] =
        factors.as<float>()[i] * weights.global_scale.as<float>()[e] * input_scale;
    turned.as<float>()[e * s.tokens + t] = alpha.as<float>()[i];
  }
  const std::vector<double> expected =
      fc2_definition(s, weights, decoded(x, static_cast<double>(input_scale)), factors);
  for (const bool token_major : {false, true}) {
    Tensor out(DType::bf16, {s.tokens, s.rows});
    ops::dense_fc2({.x = x.codes.view(),
                    .x_scales = x.scales,
                    .weights = &weights,
                    .alpha = token_major ? turned.view() : alpha.view(),
                    .token_major = token_major,
                    .out = out.view()});
    std::size_t close = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double y = formats::load(DType::bf16, out.data(), static_cast<std::int64_t>(i));
      close += std::abs(y - expected[i]) <= 0.05 + 0.1 * std::abs(expected[i]) ? 1 : 0;
    }
    EXPECT_GT(static_cast<double>(close), 0.9 * static_cast<double>(expected.size()));
  }
}

TEST(DenseGrid, Fc2) {
  int cases = 0;
  for (const int experts : {1, 4, 8, 32, 256})
    for (const int width : {256, 512, 1024})
      for (const int tokens : {1, 8, 127, 256})
        for (const int rows : {256, 512, 2048}) {
          SCOPED_TRACE(::testing::Message()
                       << "E " << experts << " I " << width << " M " << tokens << " N " << rows);
          run_fc2(shrunk({experts, rows, tokens, width}));
          ++cases;
        }
  EXPECT_EQ(cases, 180);
}

}  // namespace
}  // namespace switchyard
