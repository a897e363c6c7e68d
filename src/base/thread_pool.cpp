#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>

#include "base/check.h"

namespace switchyard {
namespace {

/// Waits for done() until it would be cheaper to have slept.
template <class Done>
void spin(Done done) {
  constexpr std::chrono::microseconds kLongest{50};  // about what it takes to wake a thread
  const auto end = std::chrono::steady_clock::now() + kLongest;
  do {
    for (int i = 0; i < 64; ++i) {
      if (done()) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  } while (std::chrono::steady_clock::now() < end);
}

}  // namespace

// One running loop. It lives on its caller's stack: the caller takes it off the list and waits for
// `joined` to fall to 0 before it leaves.
struct ThreadPool::Loop {
  Loop(Call c, void* b, std::int64_t n) : call(c), body(b), tasks(n) {}

  const Call call;
  void* const body;
  const std::int64_t tasks;
  std::atomic<std::int64_t> next{0};
  int slots = 1;               // handed out so far; guarded by mutex_, as all below
  std::atomic<int> joined{0};  // workers inside; changed under mutex_
  std::exception_ptr error;
  std::condition_variable left;
  Loop* older = nullptr;
};

ThreadPool::ThreadPool(int threads) : spins_(threads <= usable_cores()) {
  require(threads >= 1, "[thread_pool] threads: expected at least 1, got {}.", threads);
  workers_.reserve(static_cast<std::size_t>(threads - 1));
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { serve(); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

ThreadPool::Loop* ThreadPool::joinable() const {
  for (Loop* loop = loops_; loop != nullptr; loop = loop->older) {
    if (loop->slots < threads() && loop->next.load(std::memory_order_relaxed) < loop->tasks) {
      return loop;
    }
  }
  return nullptr;
}

void ThreadPool::work(Loop& loop, int slot) {
  try {
    for (;;) {
      const std::int64_t task = loop.next.fetch_add(1, std::memory_order_relaxed);
      if (task >= loop.tasks) return;
      loop.call(loop.body, task, slot);
    }
  } catch (...) {
    loop.next.store(loop.tasks, std::memory_order_relaxed);
    const std::lock_guard lock(mutex_);
    if (!loop.error) loop.error = std::current_exception();
  }
}

void ThreadPool::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    Loop* loop = joinable();
    if (loop == nullptr && spins_) {
      const std::int64_t seen = calls_.load(std::memory_order_relaxed);
      lock.unlock();
      spin([&] { return calls_.load(std::memory_order_relaxed) != seen; });
      lock.lock();
    }
    wake_.wait(lock, [&] { return stop_ || (loop = joinable()) != nullptr; });
    if (stop_) return;
    const int slot = loop->slots++;
    ++loop->joined;
    lock.unlock();
    work(*loop, slot);
    lock.lock();
    if (--loop->joined == 0) loop->left.notify_one();
  }
}

void ThreadPool::run(std::int64_t tasks, Call call, void* body) {
  if (tasks <= 0) return;
  if (workers_.empty() || tasks == 1) {
    for (std::int64_t task = 0; task < tasks; ++task) call(body, task, 0);
    return;
  }
  Loop loop(call, body, tasks);
  {
    const std::lock_guard lock(mutex_);
    loop.older = loops_;
    loops_ = &loop;
    calls_.fetch_add(1, std::memory_order_relaxed);
  }
  const std::int64_t wanted = std::min<std::int64_t>(tasks, threads()) - 1;
  for (std::int64_t i = 0; i < wanted; ++i) wake_.notify_one();
  work(loop, 0);
  {
    const std::lock_guard lock(mutex_);
    Loop** link = &loops_;
    while (*link != &loop) link = &(*link)->older;
    *link = loop.older;
  }
  if (spins_) spin([&] { return loop.joined.load(std::memory_order_relaxed) == 0; });
  std::unique_lock lock(mutex_);  // not before the last worker has let go of the loop
  loop.left.wait(lock, [&] { return loop.joined == 0; });
  if (loop.error) std::rethrow_exception(loop.error);
}

int usable_cores() noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
  const unsigned cores = std::thread::hardware_concurrency();
  return cores > 0 ? static_cast<int>(cores) : 1;
}

}  // namespace switchyard
