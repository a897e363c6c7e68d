#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <type_traits>

namespace switchyard {

/// Threads that share loops. The thread that calls parallel_for works too, so a pool of n threads
/// starts n - 1, and a pool of 1 starts none. Any number of threads may call at once, also from
/// inside a loop's body: a caller waits only for work that another thread has already begun.
/// Nothing is allocated after the constructor. A thread without work watches for some for 50 us
/// before it sleeps, unless there are more threads than cores. A forked child has the calling
/// thread alone: loops run on it, and the destructor leaves what the parent's threads used.
class ThreadPool {
 public:
  /// threads >= 1, counting the caller.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const noexcept { return threads_; }

  /// Calls body(task, slot) once for every task in [0, tasks), in no fixed order; slot is in
  /// [0, threads()) and belongs to one thread for the length of this loop. Rethrows the first
  /// exception after the tasks that had begun have ended; tasks not begun by then are left out.
  template <class Body>
  void parallel_for(std::int64_t tasks, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run(
        tasks, [](void* b, std::int64_t task, int slot) { (*static_cast<Plain*>(b))(task, slot); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Call = void (*)(void* body, std::int64_t task, int slot);
  struct Loop;

  void run(std::int64_t tasks, Call call, void* body);
  void work(Loop& loop, int slot);
  void serve();
  Loop* joinable() const;
  bool forked() const noexcept;

  struct Shared;
  std::unique_ptr<Shared> shared_;
  int threads_;
  pid_t process_;
};

/// Cores that this process may run on; at least 1.
int usable_cores() noexcept;

}  // namespace switchyard
