// The tuner's times on a GPU; skipped where there is none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moe/gpu_programs.h"
#include "moe/gpu_sampler.h"
#include "moe/gpu_tuner.h"
#include "switchyard/error.h"
#include "tests/gpu/support.h"
#include "tests/jit/support.h"
#include "tune/cost.h"
#include "tune/store.h"

namespace switchyard::moe {
namespace {

TEST(TunerGpuTest, SamplesAreTimesAndMistakesAreSentences) {
  NEEDS_GPU();
  const auto sampler = gpu_sampler(0);
  for (const char* line : {"moe t8 h512 i256 e16 k4 swiglu softmax_renormalize nvfp4",
                           "moe t256 h512 i256 e16 k4 swiglu softmax_renormalize bf16 shared=256",
                           "moe t64 h512 i256 e16 k4 swiglu softmax_renormalize bf16 ep=0/4"}) {
    const GpuShape shape = gpu_shape(parse_problem(line));
    std::vector<std::string> declined;
    const auto all =
        gpu_candidates(shape, parse_problem(line).tokens, cuda::Context::open(0).info(), declined);
    ASSERT_FALSE(all.empty());
    for (const GpuExperts& experts : {all.front(), all.back()})
      for (const std::string_view load : tune::kLoads) {
        const double us =
            sampler->sample_us({.problem = line, .config = tactic(experts), .load = load});
        EXPECT_GT(us, 1) << line;
        EXPECT_LT(us, 2000) << line;
      }
    EXPECT_THROW(sampler->sample_us({.problem = line, .config = "none", .load = "hot"}),
                 InvalidArgument);
  }
}

TEST(TunerGpuTest, APickIsStored) {
  NEEDS_GPU();
  const jit::TemporaryFolder folder;
  tuner::Options options;
  options.out = folder.path() / "picks.jsonl";
  options.again = true;
  const std::vector problems = {parse_problem("moe t4 h512 i256 e16 k4 bf16 swiglu topk_softmax")};
  EXPECT_EQ(tuner::tune(problems, options).tuned, 1);
  EXPECT_EQ(tuner::tune(problems, options).known, 1);
}

}  // namespace
}  // namespace switchyard::moe
