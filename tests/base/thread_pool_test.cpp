#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "switchyard/device.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

TEST(ThreadPool, RunsEveryTaskOnceOnASlotOfItsOwn) {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const int tasks : {0, 1, 2, 5, 1000}) {
      std::vector<int> runs(static_cast<std::size_t>(tasks), 0);
      std::vector<int> per_slot(static_cast<std::size_t>(threads), 0);
      pool.parallel_for(tasks, [&](std::int64_t task, int slot) {
        ++runs[static_cast<std::size_t>(task)];
        ++per_slot[static_cast<std::size_t>(slot)];
      });
      EXPECT_EQ(runs, std::vector<int>(static_cast<std::size_t>(tasks), 1));
      EXPECT_EQ(std::accumulate(per_slot.begin(), per_slot.end(), 0), tasks);
    }
  }
}

TEST(ThreadPool, OfOneStaysOnTheCallersThread) {
  ThreadPool pool(1);
  pool.parallel_for(20, [caller = std::this_thread::get_id()](std::int64_t, int slot) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_EQ(slot, 0);
  });
}

TEST(ThreadPool, RethrowsTheFirstExceptionAndServesOn) {
  ThreadPool pool(3);
  for (int round = 0; round < 20; ++round) {
    EXPECT_THROW(pool.parallel_for(100,
                                   [](std::int64_t task, int) {
                                     if (task % 10 == 3) throw std::runtime_error("task");
                                   }),
                 std::runtime_error);
    std::atomic<int> runs = 0;
    pool.parallel_for(50, [&](std::int64_t, int) { ++runs; });
    EXPECT_EQ(runs, 50);
  }
}

TEST(ThreadPool, ServesLoopsInsideLoops) {
  ThreadPool pool(3);
  std::atomic<int> runs = 0;
  pool.parallel_for(8, [&](std::int64_t, int) {
    pool.parallel_for(
        8, [&](std::int64_t, int) { pool.parallel_for(4, [&](std::int64_t, int) { ++runs; }); });
  });
  EXPECT_EQ(runs, 8 * 8 * 4);
}

TEST(ThreadPool, ServesSeveralCallersAtOnce) {
  ThreadPool pool(2);
  std::vector<std::thread> callers;
  std::vector<std::int64_t> sums(4, 0);
  for (std::size_t c = 0; c < sums.size(); ++c) {
    callers.emplace_back([&, c] {
      for (int round = 0; round < 200; ++round) {
        std::vector<std::int64_t> per_slot(2, 0);
        pool.parallel_for(16, [&](std::int64_t task, int slot) {
          per_slot[static_cast<std::size_t>(slot)] += task;
        });
        sums[c] += per_slot[0] + per_slot[1];
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (const std::int64_t sum : sums) EXPECT_EQ(sum, 200 * 120);
}

TEST(ThreadPool, ServesAForkedChildOnItsOnlyThread) {
  auto pool = std::make_unique<ThreadPool>(3);
  pool->parallel_for(8, [](std::int64_t, int) {});
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(20);  // a child that hangs ends
    std::int64_t sum = 0;
    pool->parallel_for(8, [&](std::int64_t task, int slot) { sum += task + 100 * slot; });
    pool.reset();
    _exit(sum == 28 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(ThreadPool, NeedsAThread) {
  EXPECT_THROW(ThreadPool(0), InvalidArgument);
}

TEST(Device, SaysWhatItIs) {
  EXPECT_EQ(to_string(Device::cpu(1)), "cpu, 1 thread");
  EXPECT_EQ(to_string(Device::cpu(3)), "cpu, 3 threads");
  EXPECT_GE(usable_cores(), 1);
}

}  // namespace
}  // namespace switchyard
