#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/math.h"
#include "formats/decode.h"
#include "ops/grouped_gemm/cpu.h"
#include "switchyard/error.h"
#include "tests/ops/random_matrix.h"

namespace switchyard::grouped_gemm {
namespace {

using testing::ActOrder;
using testing::random_matrix;

/// Activation rows in both forms, as a plan's workspace holds them.
struct Activations {
  std::int64_t rows, in;
  std::vector<float> f32;
  std::vector<FixedPanel> fixed;

  Activations(std::int64_t rows_, std::int64_t in_, std::mt19937_64& random)
      : rows(rows_), in(in_) {
    const std::int64_t stride = padded_columns(in);
    f32.assign(static_cast<std::size_t>(rows * stride), NAN);
    fixed.resize(static_cast<std::size_t>(rows * panels(in)));
    std::memset(fixed.data(), 0x7f, fixed.size() * sizeof(FixedPanel));
    std::normal_distribution<float> normal;
    for (std::int64_t r = 0; r < rows; ++r) {
      float* row = f32.data() + r * stride;
      for (std::int64_t c = 0; c < in; ++c) {
        row[c] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(normal(random)) & 0xffff0000);
      }
      pad_row(row, in);
      to_fixed(row, in, fixed.data() + r * panels(in));
    }
  }
  CpuGemm::Rows view(const std::int32_t* index = nullptr) const {
    const std::int64_t stride = padded_columns(in);
    return {.f32 = {f32.data(), stride}, .fixed = {fixed.data(), panels(in)}, .index = index};
  }
  double at(std::int64_t r, std::int64_t c) const {
    return f32[static_cast<std::size_t>(r * padded_columns(in) + c)];
  }
};

std::vector<float> multiply(const CpuGemm& gemm, std::int64_t expert, const CpuGemm::Rows& x,
                            std::int64_t rows) {
  std::vector<float> y(static_cast<std::size_t>(rows * gemm.out()), NAN);
  for (std::int64_t task = 0; task < gemm.tasks(); ++task) {
    gemm.run(expert, task, x, rows, y.data());
  }
  return y;
}

/// Worst error in units of f32 rounding: |y - exact| / (2^-24 sqrt(in) sum |x w| / sqrt(in)).
double worst_error(const ExpertMatrix& w, std::int64_t expert, const Activations& x,
                   const std::vector<float>& y) {
  double worst = 0;
  for (std::int64_t o = 0; o < w.out(); ++o) {
    for (std::int64_t r = 0; r < x.rows; ++r) {
      double exact = 0, magnitude = 1e-30;
      for (std::int64_t c = 0; c < w.in(); ++c) {
        const double product = x.at(r, c) * formats::value(w, expert, o, c);
        exact += product;
        magnitude += std::abs(product);
      }
      const double error =
          std::abs(y[static_cast<std::size_t>(r * w.out() + o)] - exact) / magnitude;
      worst = std::isnan(error) ? INFINITY : std::max(worst, error);
    }
  }
  return worst * 0x1p24;
}

struct Shape3 {
  std::int64_t rows, out, in;
};
constexpr Shape3 kShapes[] = {{1, 1, 16},    {1, 13, 128},  {2, 97, 144},
                              {3, 7, 640},   {4, 100, 256}, {5, 12, 512},
                              {9, 25, 1072}, {17, 3, 528},  {1, 192, 2048}};

std::vector<std::string> formats_under_test() {
  return {"f32",         "bf16",        "fp16",  "fp8_tensor",   "fp8_channel", "fp8_block",
          "fp8_block32", "mxfp8",       "nvfp4", "mxfp4",        "int4_g16",    "int4_g32",
          "int4_g128",   "int4_g32_zp", "int4",  "int4_g128_zp", "int4_g48_zp"};
}

bool fits(const std::string& format, std::int64_t in) {
  const WeightFormat f = weight_format(format);
  return !f.scaled || f.scale_cols == 0 || f.element == DType::f8_e4m3 || in % f.scale_cols == 0;
}

class GroupedGemmCpu : public ::testing::TestWithParam<std::string> {};

TEST_P(GroupedGemmCpu, EveryVariantMatchesTheDefinition) {
  std::mt19937_64 random(7);
  int fixed = 0;
  for (const Shape3& shape : kShapes) {
    if (!fits(GetParam(), shape.in)) continue;
    const int parts = shape.out % 2 == 0 ? 2 : 1;
    const ExpertMatrix w = random_matrix(GetParam(), 2, shape.out, shape.in, random, parts);
    const Activations x(shape.rows, shape.in, random);
    for (const Isa isa : {Isa::baseline, Isa::avx2}) {
      if (!supported(isa)) continue;
      for (const Method method : {Method::f32, Method::fixed}) {
        if (method == Method::fixed && fixed_declines(w, isa, Precision::bf16)) continue;
        const CpuGemm gemm(w, Precision::bf16, {isa, method});
        SCOPED_TRACE(gemm.variant() + " rows " + std::to_string(shape.rows) + " out " +
                     std::to_string(shape.out) + " in " + std::to_string(shape.in));
        // f32 rounds each weight once or twice, each product and sum once: a few units at most.
        // Fixed point drops what is below 2^-16 of a block's largest.
        EXPECT_LE(worst_error(w, 1, x, multiply(gemm, 1, x.view(), shape.rows)),
                  method == Method::fixed ? 64 : 8);
        fixed += method == Method::fixed;
      }
    }
  }
  const DType element = weight_format(GetParam()).element;
  const bool four_bit = element == DType::f4_e2m1 || element == DType::u4;
  EXPECT_EQ(fixed > 0, four_bit && supported(Isa::avx2));
}

INSTANTIATE_TEST_SUITE_P(Formats, GroupedGemmCpu, ::testing::ValuesIn(formats_under_test()),
                         [](const auto& name) { return name.param; });

TEST(GroupedGemmCpu, FollowsAnActOrder) {
  std::mt19937_64 random(8);
  const ExpertMatrix w = random_matrix("int4_g32_zp", 1, 20, 96, random, 1, ActOrder::yes);
  const Activations x(3, 96, random);
  for (const Isa isa : {Isa::baseline, best_isa()}) {
    EXPECT_LE(worst_error(w, 0, x, multiply(CpuGemm(w, Precision::bf16, {isa}), 0, x.view(), 3)),
              8);
  }
  EXPECT_THROW(CpuGemm(w, Precision::bf16, {best_isa(), Method::fixed}), Unsupported);
}

TEST(GroupedGemmCpu, ATokensBitsDoNotDependOnItsNeighbours) {
  std::mt19937_64 random(9);
  for (const char* format : {"nvfp4", "bf16"}) {
    const ExpertMatrix w = random_matrix(format, 1, 31, 640, random);
    const Activations x(7, 640, random);
    for (const Method method : {Method::f32, Method::fixed}) {
      if (method == Method::fixed && fixed_declines(w, best_isa(), Precision::bf16)) continue;
      const CpuGemm gemm(w, Precision::bf16, {best_isa(), method});
      const std::vector<float> together = multiply(gemm, 0, x.view(), 7);
      for (std::int32_t r = 0; r < 7; ++r) {
        const std::vector<float> alone = multiply(gemm, 0, x.view(&r), 1);
        EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + r * 31)) << r;
      }
    }
  }
}

TEST(GroupedGemmCpu, PassesOnWhatIsNotANumber) {
  std::mt19937_64 random(10);
  const ExpertMatrix w = random_matrix("nvfp4", 1, 4, 128, random);
  ExpertMatrix nan_scale = random_matrix("nvfp4", 1, 4, 128, random);
  nan_scale.scales.as<std::uint8_t>()[8] = 0x7f;  // row 1
  ExpertMatrix nan_code = random_matrix("fp8_tensor", 1, 4, 128, random);
  nan_code.elements.as<std::uint8_t>()[128 + 5] = 0xff;
  Activations x(2, 128, random);
  Activations bad = x;
  bad.f32[3] = INFINITY;
  to_fixed(bad.f32.data(), bad.in, bad.fixed.data());
  for (const Method method : {Method::f32, Method::automatic}) {
    const Choice choice{best_isa(), method};
    const std::vector<float> y = multiply(CpuGemm(w, Precision::bf16, choice), 0, bad.view(), 2);
    EXPECT_FALSE(std::isfinite(y[0]));
    EXPECT_TRUE(std::isfinite(y[4]));
    for (const ExpertMatrix* m : {&nan_scale, &nan_code}) {
      const std::vector<float> z = multiply(CpuGemm(*m, Precision::bf16, choice), 0, x.view(), 2);
      EXPECT_TRUE(std::isfinite(z[0]) && std::isnan(z[1]) && std::isfinite(z[2]));
    }
  }
}

TEST(GroupedGemmCpu, TakesScalesWithASign) {
  std::mt19937_64 random(12);
  ExpertMatrix w = random_matrix("nvfp4", 1, 9, 256, random);
  std::uint8_t* scales = w.scales.as<std::uint8_t>();
  for (int i = 0; i < 9 * 16; ++i) scales[i] &= 0x77;  // neither a sign nor a NaN
  const Activations x(1, 256, random);
  std::vector<float> y = multiply(CpuGemm(w, Precision::bf16), 0, x.view(), 1);
  y[5] = -y[5];
  for (int i = 16 * 5; i < 16 * 6; ++i) scales[i] |= 0x80;
  EXPECT_EQ(multiply(CpuGemm(w, Precision::bf16), 0, x.view(), 1), y);
}

TEST(GroupedGemmCpu, SaysWhyFixedPointIsDeclined) {
  std::mt19937_64 random(11);
  const ExpertMatrix fp4 = random_matrix("nvfp4", 1, 4, 32, random);
  const ExpertMatrix bf16 = random_matrix("bf16", 1, 4, 32, random);
  EXPECT_EQ(fixed_declines(bf16, Isa::avx2, Precision::bf16),
            "needs 4-bit weights, these are bf16");
  EXPECT_EQ(fixed_declines(fp4, Isa::baseline, Precision::bf16), "needs a byte shuffle (avx2)");
  EXPECT_EQ(fixed_declines(fp4, Isa::avx2, Precision::f32),
            "needs activations of 16 bits or less, these are f32");
  EXPECT_EQ(fixed_declines(fp4, Isa::avx2, Precision::bf16), std::nullopt);
  EXPECT_EQ(CpuGemm(bf16, Precision::bf16, {Isa::baseline}).variant(), "baseline f32");
}

TEST(FixedPoint, KeepsWhatBf16HoldsNearABlocksLargest) {
  std::vector<float> row(kPad, 0.0F);
  for (std::size_t i = 0; i < 16; ++i) {
    row[i] = std::ldexp(1.9921875F, -static_cast<int>(i) / 2) * (i % 2 == 0 ? 1.0F : -1.0F);
  }
  row[20] = 0x1p-140F;
  FixedPanel fixed;
  to_fixed(row.data(), kPad, &fixed);
  float total = 0;
  for (std::size_t i = 0; i < 16; ++i) {
    const std::size_t at = i / 8 * 64 + i % 2 * 32 + i % 8 / 2;
    const auto code = static_cast<float>(fixed.low[at] - 256 * fixed.high[at]);
    EXPECT_EQ(code * fixed.scales[0], row[i]) << i;
    total += code;
  }
  EXPECT_EQ(fixed.sums[0], total);
  EXPECT_TRUE(std::isfinite(fixed.scales[2]));  // of block 1
}

}  // namespace
}  // namespace switchyard::grouped_gemm
