#include "tune/tuner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <new>

#include "switchyard/error.h"
#include "tests/jit/support.h"
#include "tests/tune/support.h"

namespace switchyard::tune {
namespace {

using jit::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;

/// Times of configs under the three loads.
using Times = std::map<std::string, std::array<double, 3>>;

double time_of(const Times& times, const Trial& trial) {
  for (std::size_t load = 0; load < kLoads.size(); ++load)
    if (kLoads[load] == trial.load) return times.at(trial.config)[load];
  throw std::logic_error("no such load");
}

Task task_of(const Times& times, int tokens = 8) {
  Task task{.problem = key_at(tokens), .configs = {}};
  for (const auto& [config, us] : times) task.configs.push_back(config);
  return task;
}

Outcome tune_exactly(const Times& times) {
  FakeSampler sampler([&](const Trial& trial) { return time_of(times, trial); });
  return tune(task_of(times), sampler, {});
}

TEST(Cost, MedianAndSpread) {
  EXPECT_EQ(cost_of({3}), (Cost{3, 0}));
  EXPECT_EQ(cost_of({4, 1, 3, 2}), (Cost{2.5, 3}));
  EXPECT_EQ(cost_of({1, 2, 3, 4, 5, 6, 7, 8, 9, 1000, 0}), (Cost{5, 8}));
}

TEST(Tuner, TheFastestUnderEveryLoad) {
  const Outcome outcome =
      tune_exactly({{"a", {10, 12, 30}}, {"b", {9, 11, 28}}, {"c", {11, 14, 40}}});
  ASSERT_TRUE(outcome.pick);
  EXPECT_EQ(outcome.configs[*outcome.pick].config, "b");
  EXPECT_EQ(outcome.configs[1].costs[2], (Cost{28, 0}));
}

TEST(Tuner, TheLeastWorstRegret) {
  const Outcome outcome = tune_exactly({{"0 model", {20, 20, 20}},
                                        {"even", {10, 20, 10}},
                                        {"odd", {20, 10, 20}},
                                        {"steady", {13, 13, 13}}});
  ASSERT_TRUE(outcome.pick);
  EXPECT_EQ(outcome.configs[*outcome.pick].config, "steady");
}

TEST(Tuner, NeverSlowerThanTheCostModelUnderAnyLoad) {
  // "hot" has the least worst regret, and is slower under the usual load.
  const Times times = {
      {"0 model", {10, 13, 16}}, {"hot", {10.5, 10, 10}}, {"zipf", {10.1, 12, 15}}};
  Outcome outcome = tune_exactly(times);
  EXPECT_EQ(outcome.configs[*outcome.pick].config, "zipf");
  EXPECT_EQ(outcome.configs[1].rounds, 5);
  // Without the model's choice nobody is compared with it.
  FakeSampler sampler([&](const Trial& trial) {
    if (trial.config == "0 model") throw DeviceError("it hangs");
    return time_of(times, trial);
  });
  outcome = tune(task_of(times), sampler, {});
  EXPECT_EQ(outcome.configs[*outcome.pick].config, "hot");
}

TEST(Tuner, DropsWhoIsFarBehindButNotTheYardstick) {
  const Outcome outcome = tune_exactly({{"0 model", {20, 20, 20}},
                                        {"a", {10, 10, 10}},
                                        {"b", {11, 11, 11}},
                                        {"only_hot", {20, 20, 9.5}},
                                        {"slow", {14, 11, 11}},
                                        {"slower", {90, 11, 11}}});
  EXPECT_EQ(*outcome.pick, 1U);
  EXPECT_EQ(outcome.configs[0].rounds, 10);  // the others are compared with it
  EXPECT_EQ(outcome.configs[2].rounds, 10);
  EXPECT_EQ(outcome.configs[3].rounds, 10);  // regrets under hot load are relative to it
  EXPECT_EQ(outcome.configs[4].rounds, 2);
  EXPECT_EQ(outcome.configs[5].rounds, 2);
}

TEST(Tuner, SoonDropsOnlyWhoIsFarBehindAtItsBest) {
  // "b" is 9 % behind: too little for two samples. "late" has one bad sample of three times that.
  const Times times = {{"a", {10, 10, 10}}, {"b", {10.9, 10.9, 10.9}}, {"late", {9, 9, 9}}};
  int calls = 0;
  FakeSampler sampler([&](const Trial& trial) {
    return time_of(times, trial) * (trial.config == "late" && calls++ == 0 ? 3 : 1);
  });
  const Outcome outcome = tune(task_of(times), sampler, {});
  EXPECT_EQ(outcome.configs[*outcome.pick].config, "late");
  EXPECT_EQ(outcome.configs[1].rounds, 5);
}

TEST(Tuner, DropsNobodyIfAllAreWanted) {
  const Times times = {{"a", {10, 10, 10}}, {"b", {90, 90, 90}}};
  FakeSampler sampler([&](const Trial& trial) { return time_of(times, trial); });
  Options options;
  options.drop = false;
  EXPECT_EQ(tune(task_of(times), sampler, options).configs[1].rounds, 10);
}

TEST(Tuner, EqualsGoToTheCostModel) {
  const Outcome outcome = tune_exactly({{"a", {10.05, 10, 10}}, {"b", {10, 10, 10}}});
  EXPECT_EQ(*outcome.pick, 0U);
  EXPECT_EQ(*tune_exactly({{"a", {10.2, 10, 10}}, {"b", {10, 10, 10}}}).pick, 1U);
}

TEST(Tuner, OneConfigIsMeasuredToo) {
  const Outcome outcome = tune_exactly({{"a", {10, 10, 10}}});
  EXPECT_EQ(*outcome.pick, 0U);
  EXPECT_EQ(outcome.configs[0].rounds, 5);
  EXPECT_FALSE(tune_exactly({}).pick);
}

TEST(Tuner, ALoneFastSampleNeverWins) {
  const Times times = {{"a", {10, 10, 10}}, {"b", {11, 11, 11}}};
  for (int lucky = 0; lucky < 10; ++lucky) {
    std::map<std::string, int> calls;
    FakeSampler sampler([&](const Trial& trial) {
      const int call = calls[trial.config + std::string(trial.load)]++;
      return time_of(times, trial) * (trial.config == "b" && call == lucky ? 0.01 : 1);
    });
    EXPECT_EQ(*tune(task_of(times), sampler, {}).pick, 0U) << "fast in round " << lucky;
  }
}

TEST(Tuner, DriftMeetsEveryConfig) {
  // In one direction only, who is measured first would gain, or lose, as much as the best is ahead.
  for (const double slope : {2., -0.9}) {
    const char best = slope > 0 ? 't' : 'a';
    Times times;
    for (char config = 'a'; config <= 't'; ++config)
      times[std::string(1, config)] = {10.2, 10.2, 10.2};
    times[std::string(1, best)] = {10, 10, 10};
    FakeSampler sampler([&, count = 0](const Trial& trial) mutable {
      return time_of(times, trial) * (1 + slope * count++ / 600.);
    });
    EXPECT_EQ(*tune(task_of(times), sampler, {}).pick, static_cast<std::size_t>(best - 'a'));
  }
}

TEST(Tuner, NoiseDriftAndOutliersTogether) {
  Times times;
  for (int i = 0; i < 12; ++i) {
    const double base = 100 + 4 * ((i * 5) % 12);
    times[std::string(1, static_cast<char>('a' + i))] = {base, base * 1.1, base * 1.5};
  }
  int right = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const Random random(seed);
    FakeSampler sampler([&, i = std::uint64_t{0}](const Trial& trial) mutable {
      const double noise = 1 + 0.02 * random.normal(3 * i) + 0.1 * static_cast<double>(i) / 540;
      const double outlier = random.below(3 * i + 1, 100) < 5   ? 3
                             : random.below(3 * i + 2, 100) < 1 ? 0.3
                                                                : 1;
      ++i;
      return time_of(times, trial) * noise * outlier;
    });
    const Outcome outcome = tune(task_of(times), sampler, {});
    right += times.at(outcome.configs[*outcome.pick].config)[0] <= 102;
  }
  EXPECT_GE(right, 196) << "of 200 picks are the best, which is 4 % ahead";
}

TEST(Tuner, FailuresAreLeftOutAndReported) {
  const Times times = {{"a", {10, 10, 10}},  {"early", {1, 1, 1}},   {"late", {5, 5, 5}},
                       {"large", {1, 1, 1}}, {"nothing", {0, 0, 0}}, {"z", {NAN, NAN, NAN}}};
  int late = 0;
  FakeSampler sampler([&](const Trial& trial) {
    if (trial.config == "early") throw Unsupported("needs sm_100");
    if (trial.config == "large") throw std::bad_alloc();
    if (trial.config == "late" && ++late == 10) throw DeviceError("an illegal address");
    return time_of(times, trial);
  });
  std::vector<std::string> lines;
  Options options;
  options.report = [&](std::string_view line) { lines.emplace_back(line); };
  const Outcome outcome = tune(task_of(times), sampler, options);
  EXPECT_EQ(outcome.configs[*outcome.pick].config, "a");
  EXPECT_EQ(outcome.configs[1].failure, "needs sm_100");
  EXPECT_THAT(lines, ElementsAre(HasSubstr("early is left out: needs sm_100"),
                                 HasSubstr("large is left out: std::bad_alloc"),
                                 HasSubstr("nothing is left out: expected a time above 0, got 0"),
                                 HasSubstr("z is left out: expected a time above 0, got nan"),
                                 HasSubstr("late is left out: an illegal address")));
}

TEST(Tuner, WhoWasDroppedForAFailureComesBack) {
  const Times times = {{"a", {10, 10, 10}}, {"first", {5, 5, 5}}, {"second", {5.5, 5.5, 5.5}}};
  std::map<std::string, int> calls;
  FakeSampler sampler([&](const Trial& trial) {
    if (trial.config != "a" && ++calls[trial.config] == 28)
      throw DeviceError("it hangs now and then");
    return time_of(times, trial);
  });
  const Outcome outcome = tune(task_of(times), sampler, {});
  ASSERT_TRUE(outcome.pick);
  EXPECT_EQ(outcome.configs[*outcome.pick].config, "a");
}

TEST(Tuner, TooFewRounds) {
  FakeSampler sampler([](const Trial&) { return 1.; });
  Options options;
  options.rounds = 4;
  EXPECT_THROW(tune(Task{key_at(8), {"a"}}, sampler, options), InvalidArgument);
}

class TuningRun : public testing::Test {
 protected:
  Summary run(Options options = {}) {
    Table table(here(), [&](std::string_view line) { lines_.emplace_back(line); });
    table.add_file(file_);
    return tune(tasks_, sampler_, {.table = table, .file = file_, .begin = {}, .end = {}}, options);
  }
  Table table() {
    Table all(here(), {});
    all.add_file(file_);
    return all;
  }

  const Times times_ = {{"a", {10, 10, 10}}, {"b", {8, 8, 8}}};
  std::vector<Task> tasks_ = {task_of(times_, 8), task_of(times_, 16), task_of(times_, 24)};
  std::function<void(const Trial&)> before_ = [](const Trial&) {};
  FakeSampler sampler_{[this](const Trial& trial) {
    before_(trial);
    return time_of(times_, trial);
  }};
  std::vector<std::string> lines_;
  TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_.path() / "new" / "tuning.jsonl";
};

TEST_F(TuningRun, IsDoneOnce) {
  EXPECT_EQ(run().tuned, 3);
  EXPECT_EQ(table().find(key_at(16))->config, "b");
  const std::size_t samples = sampler_.trials.size();
  const Summary again = run();
  EXPECT_EQ(again.known, 3);
  EXPECT_EQ(again.tuned, 0);
  EXPECT_EQ(sampler_.trials.size(), samples);
}

TEST_F(TuningRun, StopKeepsWhatIsDone) {
  Options options;
  options.stop = [&] { return sampler_.trials.size() >= 100; };  // in the second task
  const Summary summary = run(options);
  EXPECT_TRUE(summary.stopped);
  EXPECT_EQ(summary.tuned, 1);
  EXPECT_EQ(sampler_.trials.size(), 100U);
  EXPECT_TRUE(table().find(key_at(8)));
  EXPECT_FALSE(table().find(key_at(16)));
  const Summary rest = run();
  EXPECT_EQ(rest.known, 1);
  EXPECT_EQ(rest.tuned, 2);
}

TEST_F(TuningRun, GoesOnAfterAKilledAppend) {
  run();
  const std::string whole = jit::slurp(file_);
  jit::spill(file_, std::string_view(whole).substr(0, whole.size() - 40));
  const Summary summary = run();
  EXPECT_THAT(lines_, ElementsAre(HasSubstr(":3 is skipped: it is no JSON")));
  EXPECT_EQ(summary.known, 2);
  EXPECT_EQ(summary.tuned, 1);
  EXPECT_EQ(run().known, 3);
}

TEST_F(TuningRun, WhatFailsEntirelyIsNotStored) {
  before_ = [](const Trial& trial) {
    if (trial.problem == key_at(16)) throw DeviceError("CUDA_ERROR_OUT_OF_MEMORY");
  };
  const Summary summary = run();
  EXPECT_EQ(summary.failed, 1);
  EXPECT_EQ(summary.tuned, 2);
  EXPECT_FALSE(table().find(key_at(16)));
  EXPECT_THAT(jit::slurp(file_), testing::Not(HasSubstr("t16 ")));
}

TEST_F(TuningRun, OldVersionsAndLostCandidatesAreMeasuredAgain) {
  Row old = row_at(8, "a", 1);
  old.place.kernels = "older";
  append(file_, old);
  append(file_, row_at(16, "gone", 1));
  append(file_, row_at(24, "a", 1));
  EXPECT_EQ(run().known, 1);
  EXPECT_EQ(table().find(key_at(8))->config, "b");
}

TEST_F(TuningRun, ProgressEndsAtTheEnd) {
  Options options;
  std::vector<Progress> seen;
  options.progress = [&](const Progress& progress) { seen.push_back(progress); };
  run(options);
  ASSERT_FALSE(seen.empty());
  for (std::size_t i = 0; i < seen.size(); ++i) {
    EXPECT_EQ(seen[i].total, 3 * 2 * 3 * 10);
    EXPECT_GE(seen[i].seconds_left, 0);
    EXPECT_GE(seen[i].done, i > 0 ? seen[i - 1].done : 0);
  }
  EXPECT_EQ(seen.back().done, seen.back().total);
  EXPECT_EQ(seen.back().seconds_left, 0);
}

TEST_F(TuningRun, AFileThatCannotBeWritten) {
  jit::spill(folder_.path() / "new", "a file where the folder belongs");
  EXPECT_THROW(run(), DeviceError);
}

}  // namespace
}  // namespace switchyard::tune
