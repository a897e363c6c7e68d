#include "base/thread_pool.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

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

struct ThreadPool::Shared {
  explicit Shared(int threads) : spins(threads <= usable_cores()) {}

  std::mutex mutex;
  std::condition_variable wake;
  Loop* loops = nullptr;               // newest first; guarded by mutex
  std::atomic<std::int64_t> calls{0};  // of run(): what an idle worker watches
  const bool spins;
  bool stop = false;
  std::vector<std::thread> workers;
};

ThreadPool::ThreadPool(int threads)
    : shared_(std::make_unique<Shared>(threads)), threads_(threads), process_(getpid()) {
  require(threads >= 1, "[thread_pool] threads: expected at least 1, got {}.", threads);
  shared_->workers.reserve(static_cast<std::size_t>(threads - 1));
  for (int i = 1; i < threads; ++i) shared_->workers.emplace_back([this] { serve(); });
}

ThreadPool::~ThreadPool() {
  if (forked()) {
    // Neither the threads nor what they wait on may be touched: glibc would wait for them.
    static_cast<void>(shared_.release());
    return;
  }
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stop = true;
  }
  shared_->wake.notify_all();
  for (std::thread& worker : shared_->workers) worker.join();
}

bool ThreadPool::forked() const noexcept {
  return process_ != getpid();
}

ThreadPool::Loop* ThreadPool::joinable() const {
  for (Loop* loop = shared_->loops; loop != nullptr; loop = loop->older) {
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
    const std::lock_guard lock(shared_->mutex);
    if (!loop.error) loop.error = std::current_exception();
  }
}

void ThreadPool::serve() {
  std::unique_lock lock(shared_->mutex);
  for (;;) {
    Loop* loop = joinable();
    if (loop == nullptr && shared_->spins) {
      const std::int64_t seen = shared_->calls.load(std::memory_order_relaxed);
      lock.unlock();
      spin([&] { return shared_->calls.load(std::memory_order_relaxed) != seen; });
      lock.lock();
    }
    shared_->wake.wait(lock, [&] { return shared_->stop || (loop = joinable()) != nullptr; });
    if (shared_->stop) return;
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
  if (threads_ == 1 || tasks == 1 || forked()) {
    for (std::int64_t task = 0; task < tasks; ++task) call(body, task, 0);
    return;
  }
  Loop loop(call, body, tasks);
  {
    const std::lock_guard lock(shared_->mutex);
    loop.older = shared_->loops;
    shared_->loops = &loop;
    shared_->calls.fetch_add(1, std::memory_order_relaxed);
  }
  const std::int64_t wanted = std::min<std::int64_t>(tasks, threads()) - 1;
  for (std::int64_t i = 0; i < wanted; ++i) shared_->wake.notify_one();
  work(loop, 0);
  {
    const std::lock_guard lock(shared_->mutex);
    Loop** link = &shared_->loops;
    while (*link != &loop) link = &(*link)->older;
    *link = loop.older;
  }
  if (shared_->spins) spin([&] { return loop.joined.load(std::memory_order_relaxed) == 0; });
  std::unique_lock lock(shared_->mutex);  // not before the last worker has let go of the loop
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
