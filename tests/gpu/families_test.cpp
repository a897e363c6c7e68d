// The families of TensorRT-LLM's mixtureOfExpertsTest that apply to these kernels, by their names
// there: E = 4, H = 128, I = 4 H, relu and bias unless a family says otherwise. The expected values
// are the definition's, not a tolerance. Skipped where there is no GPU.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <vector>

#include "formats/convert.h"
#include "moe/closeness.h"
#include "tests/gpu/support.h"

namespace switchyard::moe {
namespace {

/// Runs the planner's choice with a poisoned workspace and with its complement.
void expect_right_and_repeatable(const std::string& line) {
  SCOPED_TRACE(line);
  const GpuCase c(line);
  const Planned p(c);
  OnDevice d(p, c);
  const Tensor first = d.run(0xd5);
  EXPECT_TRUE(same(d.run(0x2a), first));
  d.expect_guards();
  expect_close(first, c.exact, c.honest);
}

TEST(FamilyGpuTest, SweepNumTokens) {
  NEEDS_GPU();
  for (const char* activation : {"relu", "geglu"})
    for (const int tokens : {2, 8, 15, 19, 64, 73, 256})
      for (const int k : {1, 2, 3})
        expect_right_and_repeatable(fmt::format(
            "moe t{} h128 i512 e4 k{} bf16 {} softmax_renormalize bias", tokens, k, activation));
}

TEST(FamilyGpuTest, Activations) {
  NEEDS_GPU();
  for (const char* activation :
       {"relu", "gelu", "silu", "geglu", "swiglu", "swiglu_oai bias alpha=0.5 beta=1 limit=0.5"})
    for (const int k : {1, 2, 3})
      expect_right_and_repeatable(
          fmt::format("moe t3 h128 i512 e4 k{} bf16 {} softmax_renormalize", k, activation));
}

TEST(FamilyGpuTest, SwigluVerySmall) {
  NEEDS_GPU();
  for (const int hidden : {8, 16, 24})
    for (const int k : {1, 2, 3})
      expect_right_and_repeatable(fmt::format(
          "moe t3 h{} i{} e4 k{} bf16 swiglu softmax_renormalize", hidden, 4 * hidden, k));
}

TEST(FamilyGpuTest, NonPowerOfTwo) {
  NEEDS_GPU();
  for (const char* activation : {"relu", "swiglu"})
    for (const int k : {1, 2, 3})
      expect_right_and_repeatable(
          fmt::format("moe t3 h128 i512 e10 k{} bf16 {} softmax_renormalize bias", k, activation));
}

TEST(FamilyGpuTest, ManyExperts) {
  NEEDS_GPU();
  for (const int tokens : {3, 200})
    expect_right_and_repeatable(
        fmt::format("moe t{} h8 i32 e512 k2 bf16 relu softmax_renormalize bias", tokens));
}

TEST(FamilyGpuTest, MinimumAlignment) {
  NEEDS_GPU();
  for (const int tokens : {3, 200})
    expect_right_and_repeatable(
        fmt::format("moe t{} h136 i136 e4 k1 bf16 relu softmax_renormalize bias", tokens));
}

/// The outputs of all ranks, each on its own plan, sum to the layer's.
void expect_parts_sum(const std::string& line, int tp_ranks, int ep_ranks) {
  SCOPED_TRACE(fmt::format("{} tp={} ep={}", line, tp_ranks, ep_ranks));
  const GpuCase whole(line);
  std::vector<double> sum(whole.exact.out.size()), honest(sum.size()), part(sum.size());
  for (int rank = 0; rank < tp_ranks * ep_ranks; ++rank) {
    const GpuCase c(fmt::format("{} tp={}/{} ep={}/{}", line, rank % tp_ranks, tp_ranks,
                                rank / tp_ranks, ep_ranks));
    const Planned p(c);
    const Tensor out = c.run(p.layer, p.plan).out;
    formats::load_run(out.dtype(), out.data(), 0, static_cast<std::int64_t>(part.size()),
                      part.data());
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
    Tensor stored(out.dtype(), out.shape());
    const std::vector<float> rounded(c.honest.out.begin(), c.honest.out.end());
    const auto count = static_cast<std::int64_t>(part.size());
    formats::store_run(stored.dtype(), stored.data(), 0, count, rounded.data());
    formats::load_run(stored.dtype(), stored.data(), 0, count, part.data());
    for (std::size_t i = 0; i < sum.size(); ++i) honest[i] += part[i];
  }
  const Closeness close =
      compare(sum, honest, whole.exact.out, static_cast<std::size_t>(whole.problem.tokens), 0);
  EXPECT_TRUE(close.finite_match);
  EXPECT_LE(close.worst_ratio, 2.0);
}

TEST(FamilyGpuTest, ExpertParallelTensorParallelAndMixedPartsSumToTheLayer) {
  NEEDS_GPU();
  for (const int tokens : {2, 73, 256}) {
    const std::string line =
        fmt::format("moe t{} h128 i512 e4 k2 bf16 swiglu softmax_renormalize bias", tokens);
    for (const int ranks : {2, 4}) expect_parts_sum(line, 1, ranks);
    for (const int ranks : {2, 4, 8}) expect_parts_sum(line, ranks, 1);
    for (const int ranks : {2, 4}) expect_parts_sum(line, 2, ranks);
    expect_parts_sum(line, 8, 2);
  }
}

}  // namespace
}  // namespace switchyard::moe
