#include "tune/worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "switchyard/error.h"
#include "tests/tune/support.h"

namespace switchyard::tune {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

class TuningWorker : public testing::Test {
 protected:
  double sample(std::string config, std::string_view load = "balanced") {
    return worker_.sample_us({.problem = key_at(8), .config = std::move(config), .load = load});
  }
  template <class E>
  std::string failure(std::string config) {
    try {
      sample(std::move(config));
    } catch (const E& error) {
      return error.what();
    }
    return "none";
  }

  Worker worker_{
      {(std::filesystem::read_symlink("/proc/self/exe").parent_path() / "switchyard_tune_process")
           .string(),
       "serve"},
      milliseconds(2000)};
};

TEST_F(TuningWorker, CarriesRunsAndTimes) {
  EXPECT_EQ(sample("a"), 10);
  EXPECT_EQ(sample("a", "hot"), 20);
}

TEST_F(TuningWorker, AConfigThatDoesNotRun) {
  EXPECT_EQ(failure<InvalidArgument>("declines"), "needs sm_100");
  EXPECT_EQ(sample("a"), 10);
}

TEST_F(TuningWorker, AProcessThatEnds) {
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(failure<DeviceError>("killed"), "its process ended by signal 9");
    EXPECT_EQ(failure<DeviceError>("exits"), "its process ended with status 7");
    EXPECT_EQ(sample("a"), 10);
  }
}

TEST_F(TuningWorker, AStickyErrorEndsItsProcessOnly) {
  EXPECT_EQ(failure<DeviceError>("spoils"), "an illegal address");
  EXPECT_EQ(sample("a"), 10);
}

TEST_F(TuningWorker, OutOfMemory) {
  EXPECT_EQ(failure<DeviceError>("large"), "std::bad_alloc");
  EXPECT_EQ(sample("a"), 10);
  EXPECT_EQ(sample("crowded"), 10) << "alone in a process it has the memory";
}

TEST_F(TuningWorker, ACandidateThatHangsEndsByItsLimit) {
  EXPECT_EQ(sample("a"), 10);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(failure<DeviceError>("hangs"), "it took longer than 2000 ms");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
  EXPECT_EQ(sample("a"), 10);
}

TEST_F(TuningWorker, ATuningRunSurvivesThemAll) {
  const Task task{.problem = key_at(8),
                  .configs = {"hangs", "killed", "spoils", "a", "large", "declines", "b"}};
  const Outcome outcome = tune(task, worker_, {});
  EXPECT_EQ(*outcome.pick, 3U);
  EXPECT_EQ(outcome.configs[3].costs[2].median_us, 20);
  for (const std::size_t failed : {0U, 1U, 2U, 4U, 5U})
    EXPECT_NE(outcome.configs[failed].failure, "");
  EXPECT_EQ(outcome.configs[6].failure, "");
}

TEST(Worker, AProgramThatIsNotThere) {
  Worker worker({"/nonexistent/program"}, milliseconds(1000));
  EXPECT_THROW(worker.sample_us({.problem = key_at(8), .config = "a", .load = "hot"}), DeviceError);
}

}  // namespace
}  // namespace switchyard::tune
