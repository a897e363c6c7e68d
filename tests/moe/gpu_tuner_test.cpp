#include "moe/gpu_tuner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "moe/gpu_picks.h"
#include "moe/gpu_programs.h"
#include "switchyard/error.h"
#include "tests/jit/support.h"
#include "tests/tune/support.h"

namespace switchyard::moe {
namespace {

using testing::HasSubstr;

/// Times in which a GPU would disagree with the cost model: the last candidate is the best.
class FakeGpu : public testing::Test {
 protected:
  FakeGpu() {
    setenv("SWITCHYARD_JIT", "off", 1);
    setenv("SWITCHYARD_CACHE_DIR", folder_.path().c_str(), 1);
    options_.out = folder_.path() / "picks.jsonl";
    options_.report = [this](std::string_view line) { lines_.emplace_back(line); };
  }
  ~FakeGpu() override {
    unsetenv("SWITCHYARD_JIT");
    unsetenv("SWITCHYARD_CACHE_DIR");
  }

  tuner::Summary tune(std::vector<int> batches = {8, 40, 300}) {
    std::vector<MoeProblem> problems;
    for (const int tokens : batches)
      problems.push_back(parse_problem("moe t" + std::to_string(tokens) + kLayer));
    return tune_on(h200(), sampler_, problems, options_);
  }
  std::vector<GpuExperts> candidates(int tokens) const {
    std::vector<std::string> declined;
    return gpu_candidates(shape_, tokens, h200(), declined);
  }
  std::string planned(int tokens) const {
    return tactic(tuned_plan(shape_, tokens, h200()).experts);
  }

  static constexpr const char* kLayer = " h2048 i768 e128 k8 bf16 swiglu softmax_renormalize";
  const GpuShape shape_ = gpu_shape(parse_problem(std::string("moe t1") + kLayer));
  const jit::TemporaryFolder folder_;
  tuner::Options options_;
  std::vector<std::string> lines_;
  std::function<double(const tune::Trial&)> us_ = [this](const tune::Trial& trial) {
    const auto all = candidates(parse_problem(trial.problem).tokens);
    return trial.config == tactic(all[1]) ? 9. : 10.;
  };
  tune::FakeSampler sampler_{[this](const tune::Trial& trial) { return us_(trial); }};
};

TEST_F(FakeGpu, PicksAreStoredAndPlannedWith) {
  options_.out.clear();
  const tuner::Summary summary = tune();
  EXPECT_EQ(summary.tuned, 3);
  EXPECT_EQ(planned(8), tactic(candidates(8)[1]));
  EXPECT_EQ(planned(300), tactic(candidates(256)[1]));  // the bucket below
  EXPECT_EQ(tune().known, 3);
  EXPECT_TRUE(lines_.empty());
}

TEST_F(FakeGpu, OneTaskForBatchesOfOneBucket) {
  EXPECT_EQ(tune({41, 42, 43}).tuned, 1);
}

TEST_F(FakeGpu, KnownElsewhereUnlessAgain) {
  tune();
  options_.from = {options_.out};
  options_.out = folder_.path() / "second.jsonl";
  EXPECT_EQ(tune().known, 3);
  EXPECT_FALSE(std::filesystem::exists(options_.out));
  options_.from.clear();
  options_.again = true;
  EXPECT_EQ(tune().tuned, 3);
  EXPECT_EQ(tune().known, 3);  // its own file still counts: a run that was killed goes on
}

TEST_F(FakeGpu, EveryCandidateIfExhaustive) {
  tune({8});
  const auto distinct = [&] {
    std::set<std::string> configs;
    for (const tune::Trial& trial : sampler_.trials) configs.insert(trial.config);
    return configs.size();
  };
  EXPECT_LE(distinct(), candidates(8).size());
  sampler_.trials.clear();
  options_.exhaustive = true, options_.again = true;
  options_.out = folder_.path() / "all.jsonl";
  options_.details = folder_.path() / "details.jsonl";
  tune({8});
  EXPECT_EQ(distinct(), candidates(8).size());
  EXPECT_EQ(sampler_.trials.size(), candidates(8).size() * 3 * 10);
  const auto details = nlohmann::json::parse(jit::slurp(options_.details));
  EXPECT_EQ(details["configs"].size(), candidates(8).size());
  EXPECT_EQ(details["pick"], tactic(candidates(8)[1]));
  EXPECT_EQ(details["configs"][0]["median_us"]["hot"], 10.);
}

TEST_F(FakeGpu, FailuresAreReportedAndNeverStored) {
  us_ = [this](const tune::Trial& trial) -> double {
    if (parse_problem(trial.problem).tokens == 40) throw DeviceError("no memory");
    if (trial.config == tactic(candidates(parse_problem(trial.problem).tokens)[0]))
      throw DeviceError("an illegal address");
    return 10;
  };
  const tuner::Summary summary = tune();
  EXPECT_EQ(summary.tuned, 2);
  EXPECT_EQ(summary.failed, 1);
  EXPECT_THAT(lines_, testing::Contains(HasSubstr("is left out: an illegal address")));
  EXPECT_THAT(jit::slurp(options_.out), testing::Not(HasSubstr("moe t40 ")));
  EXPECT_THAT(jit::slurp(options_.out), testing::Not(HasSubstr(tactic(candidates(8)[0]) + "\"")));
}

TEST_F(FakeGpu, StopKeepsWhatIsDone) {
  options_.stop = [&] {
    return std::filesystem::exists(options_.out) &&
           jit::slurp(options_.out).find("moe t40 ") != std::string::npos;
  };
  const tuner::Summary summary = tune();
  EXPECT_TRUE(summary.stopped);
  EXPECT_EQ(summary.tuned, 2);
}

TEST_F(FakeGpu, MergeIsTheSameInAnyOrder) {
  tune({8, 40});
  const std::filesystem::path first = options_.out, second = folder_.path() / "second.jsonl",
                              out = folder_.path() / "merged.jsonl";
  options_.again = true, options_.out = second;
  us_ = [](const tune::Trial&) { return 10.; };
  tune({40, 300});
  jit::spill(second, jit::slurp(second) + "no row\n");
  tune::Row stale = tune::parse_row(jit::slurp(first).substr(0, jit::slurp(first).find('\n')));
  stale.place.kernels = "older";
  tune::append(first, stale);

  lines_.clear();
  EXPECT_EQ(tuner::merge(std::vector{first, second}, out, options_.report), 3);
  EXPECT_THAT(lines_, testing::ElementsAre(HasSubstr("second.jsonl:3 is skipped"),
                                           HasSubstr("1 rows of other kernels")));
  const std::string merged = jit::slurp(out);
  EXPECT_EQ(tuner::merge(std::vector{second, first}, out), 3);
  EXPECT_EQ(jit::slurp(out), merged);
  EXPECT_EQ(tuner::merge(std::vector{out}, out), 3);
  EXPECT_EQ(jit::slurp(out), merged);
}

TEST_F(FakeGpu, WhatNoKernelServes) {
  EXPECT_THROW(
      tune_on(h200(), sampler_,
              std::vector{parse_problem("moe t8 h64 i64 e4 k1 fp8_block swiglu topk_softmax")},
              options_),
      Unsupported);
}

}  // namespace
}  // namespace switchyard::moe
