#pragma once

#include <functional>
#include <optional>
#include <utility>

#include "cuda/context.h"

namespace switchyard::cuda {

/// A driver object that is destroyed with its owner, in the context it was made in.
template <class Handle, CUresult (*kDestroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  Owned(Context context, Handle handle) : context_(std::move(context)), handle_(handle) {}
  ~Owned() {
    if (handle_ != nullptr) kDestroy(handle_);
  }
  Owned(Owned&& other) noexcept
      : context_(std::move(other.context_)), handle_(std::exchange(other.handle_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(context_, other.context_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  Handle get() const noexcept { return handle_; }

 private:
  std::optional<Context> context_;
  Handle handle_ = nullptr;
};

CUresult destroy(CUstream stream) noexcept;
CUresult destroy(CUevent event) noexcept;
CUresult destroy(CUgraphExec graph) noexcept;

/// A stream that does not wait for the legacy default stream.
class Stream {
 public:
  explicit Stream(const Context& context);
  CUstream get() const noexcept { return stream_.get(); }
  /// Waits on the host for all that was enqueued.
  void synchronize() const;
  /// Later work on this stream waits for `event`.
  void wait(CUevent event) const;

 private:
  Owned<CUstream, destroy> stream_;
};

enum class Timing { off, on };

class Event {
 public:
  explicit Event(const Context& context, Timing timing = Timing::off);
  CUevent get() const noexcept { return event_.get(); }
  void record(CUstream stream) const;
  void synchronize() const;

 private:
  Owned<CUevent, destroy> event_;
};

/// Microseconds between two recorded events with timing; waits for `end`.
double elapsed_us(const Event& start, const Event& end);

/// A recorded sequence of launches, ready to be replayed.
class Graph {
 public:
  /// Records what `body` enqueues on `stream`. Calls that allocate or wait fail inside `body` on
  /// this thread; if it throws, the capture is ended and the stream usable again.
  static Graph capture(const Context& context, CUstream stream, const std::function<void()>& body);
  void launch(CUstream stream) const;

 private:
  explicit Graph(Owned<CUgraphExec, destroy> graph) : graph_(std::move(graph)) {}
  Owned<CUgraphExec, destroy> graph_;
};

}  // namespace switchyard::cuda
