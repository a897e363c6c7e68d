#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "formats/convert.h"
#include "ops/grouped_gemm/problem.h"
#include "switchyard/error.h"
#include "switchyard/ops.h"
#include "tests/ops/random_matrix.h"

namespace switchyard {
namespace {

/// Tokens, groups and what the definition makes of them.
struct Case {
  ExpertMatrix weights;
  Activation activation;
  bool activate;
  Tensor x, offsets, rows, out;

  Case(const char* format, DType x_type, bool activate_) : activate(activate_) {
    std::mt19937_64 random(3);
    weights = testing::random_matrix(format, 4, 34, 96, random);
    weights.bias = Tensor(DType::f32, {4, 34});
    for (int i = 0; i < 4 * 34; ++i)
      weights.bias.as<float>()[i] = 0.25F * static_cast<float>(i % 5);
    x = Tensor(x_type, {3, 96});
    std::normal_distribution<double> normal;
    for (int i = 0; i < 3 * 96; ++i) formats::store(x_type, x.data(), i, normal(random));
    offsets = Tensor(DType::i64, {5});
    const std::int64_t starts[] = {0, 3, 3, 4, 6};
    std::memcpy(offsets.data(), starts, sizeof(starts));
    rows = Tensor(DType::i32, {6});
    const std::int32_t slots[] = {0, 2, 5, 1, 3, 4};
    std::memcpy(rows.data(), slots, sizeof(slots));
    out = Tensor(DType::f32, {6, activate ? 17 : 34});
  }
  ops::GroupedGemmArgs args() {
    ops::GroupedGemmArgs args;
    args.x = x.view();
    args.offsets = offsets.view();
    args.rows = rows.view();
    args.top_k = 2;
    args.weights = &weights;
    args.activation = activate ? &activation : nullptr;
    args.out = out.view();
    return args;
  }
  std::vector<double> expected() const {
    std::vector<double> gathered(6 * 96), y(static_cast<std::size_t>(out.shape().elements()));
    for (std::int64_t r = 0; r < 6; ++r)
      formats::load_run(x.dtype(), x.data(), rows.as<std::int32_t>()[r] / 2 * 96, 96,
                        &gathered[static_cast<std::size_t>(r * 96)]);
    const std::vector<std::int32_t> experts = {0, 0, 0, 2, 3, 3};
    grouped_gemm::reference(weights, gathered, experts, activate ? &activation : nullptr, y);
    return y;
  }
};

TEST(GroupedGemmOp, MatchesTheDefinition) {
  for (const char* format : {"bf16", "nvfp4", "int4_g32_zp", "fp8_channel"}) {
    for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
      for (const bool activate : {false, true}) {
        Case c(format, type, activate);
        for (const int threads : {1, 3}) {
          ops::grouped_gemm(c.args(), Device::cpu(threads));
          const std::vector<double> expected = c.expected();
          double scale = 0;
          for (const double y : expected) scale = std::max(scale, std::abs(y));
          for (std::size_t i = 0; i < expected.size(); ++i)
            EXPECT_NEAR(c.out.as<float>()[i], expected[i], scale * 1e-5) << format << " at " << i;
        }
      }
    }
  }
}

void expect_refused(const ops::GroupedGemmArgs& args, const char* names) {
  try {
    ops::grouped_gemm(args);
    ADD_FAILURE() << "accepted; expected a complaint about " << names;
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find(names), std::string::npos) << error.what();
  }
}

TEST(GroupedGemmLine, ParsesWhatItPrints) {
  using grouped_gemm::parse;
  const std::string line = "grouped_gemm e256 r4096 n4096 k7168 nvfp4";
  const grouped_gemm::Problem problem{
      .experts = 256, .rows = 4096, .out = 4096, .in = 7168, .weights = weight_format("nvfp4")};
  EXPECT_EQ(to_string(problem), line);
  EXPECT_EQ(parse(line), problem);
  EXPECT_EQ(to_string(parse("grouped_gemm int4_g32 k64 n2 e1 r0")),
            "grouped_gemm e1 r0 n2 k64 int4_g32");
  EXPECT_EQ(parse("grouped_gemm e1 n2 k64").weights, weight_format("bf16"));
}

TEST(GroupedGemmLine, NamesTheWrongWord) {
  const std::pair<const char*, const char*> lines[] = {
      {"grouped_gemm e4 r1 n2", "[grouped_gemm] k: missing"},
      {"grouped_gemm e0 r1 n2 k4", "e: expected a count from 1"},
      {"grouped_gemm e4 r1 n2 k4 nvfp8", "'nvfp8': not known here"},
      {"grouped_gemm e4 r1 n2 k4 nvfp4 mxfp4", "a second weight format"},
      {"moe e4 r1 n2 k4", "expected it to begin with 'grouped_gemm'"}};
  for (const auto& [line, says] : lines) {
    try {
      grouped_gemm::parse(line);
      ADD_FAILURE() << line;
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
    }
  }
}

TEST(GroupedGemmOp, NamesTheBadArgumentAndWritesNothing) {
  Case c("nvfp4", DType::bf16, true);
  std::memset(c.out.data(), 0xD5, static_cast<std::size_t>(c.out.bytes()));
  const Tensor before = c.out.clone();
  ops::GroupedGemmArgs args = c.args();
  args.weights = nullptr;
  expect_refused(args, "weights");
  args = c.args();
  args.x.shape = {3, 95};
  expect_refused(args, "x");
  args = c.args();
  args.out.shape = {6, 34};
  expect_refused(args, "out");
  args = c.args();
  args.top_k = 0;
  expect_refused(args, "top_k");
  c.rows.as<std::int32_t>()[2] = 6;
  expect_refused(c.args(), "rows");
  c.rows.as<std::int32_t>()[2] = 5;
  c.offsets.as<std::int64_t>()[2] = 5;
  expect_refused(c.args(), "offsets");
  EXPECT_EQ(std::memcmp(before.data(), c.out.data(), static_cast<std::size_t>(c.out.bytes())), 0);
}

}  // namespace
}  // namespace switchyard
