#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "cuda/context.h"
#include "cuda/launch.h"
#include "jit/cache.h"

namespace switchyard::jit {

/// A kernel instance, loaded into one context, its shared-memory limit raised to the device's.
/// Cheap to copy; unloaded with the last copy, which must not happen while it runs.
class Kernel {
 public:
  Kernel() = default;
  /// Throws DeviceError, naming both versions, if the driver cannot load what NVRTC made.
  Kernel(const cuda::Context& context, std::shared_ptr<const Binary> binary);

  cuda::CUfunction function() const noexcept { return state_->function; }
  const Resources& resources() const noexcept { return state_->binary->resources; }
  /// Dynamic shared memory a launch may ask for, in bytes.
  int smem_limit() const noexcept { return state_->smem_limit; }
  explicit operator bool() const noexcept { return state_ != nullptr; }
  friend bool operator==(const Kernel&, const Kernel&) = default;

 private:
  struct State {
    State(const cuda::Context& home, std::shared_ptr<const Binary> code);
    ~State();
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    cuda::Context context;
    std::shared_ptr<const Binary> binary;
    cuda::CUmodule module = nullptr;
    cuda::CUfunction function = nullptr;
    int smem_limit = 0;
  };
  std::shared_ptr<const State> state_;
};

/// Everything one launch needs, decided at plan time. run() fills in pointers and nothing else.
struct Launch {
  Kernel kernel;
  cuda::Dim3 grid, block, cluster;
  int smem_bytes = 0;
  bool overlap_previous = false;  // programmatic dependent launch
};

/// Enqueues; the kernel's context must be current. Allocates nothing, locks nothing.
template <class Args>
void enqueue(const Launch& launch, const Args& args, cuda::CUstream stream) {
  cuda::launch(launch.kernel.function(),
               {.grid = launch.grid,
                .block = launch.block,
                .cluster = launch.cluster,
                .smem_bytes = launch.smem_bytes,
                .overlap_previous = launch.overlap_previous},
               &args, stream);
}

/// Kernels of one context, each loaded once. Any thread may call.
class Loader {
 public:
  Loader(cuda::Context context, std::shared_ptr<Cache> cache)
      : context_(std::move(context)), cache_(std::move(cache)) {}

  Kernel kernel(const Program& program) { return kernels({&program, 1}, 1)[0]; }
  /// In the order of `programs`; what is not cached is compiled on `threads` threads.
  std::vector<Kernel> kernels(std::span<const Program> programs, int threads);

 private:
  cuda::Context context_;
  std::shared_ptr<Cache> cache_;
  std::mutex mutex_;
  std::map<std::shared_ptr<const Binary>, Kernel> loaded_;  // the cache has one Binary a program
};

}  // namespace switchyard::jit
