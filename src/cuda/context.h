#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "cuda/api.h"

namespace switchyard::cuda {

/// What plans need to know about a GPU. An aggregate, so that tests plan for machines they lack.
struct DeviceInfo {
  std::string name;         // "NVIDIA H200"
  int sm = 0;               // 90
  int multiprocessors = 0;  // 132
  int smem_per_block = 0;   // bytes one block may ask for: 232448
  int l2_bytes = 0;
  int clock_khz = 0;  // highest
  int memory_clock_khz = 0, memory_bus_bits = 0;
  std::size_t memory_bytes = 0;
  friend bool operator==(const DeviceInfo&, const DeviceInfo&) = default;
};

/// "NVIDIA H200, sm_90, 132 SMs, 139.8 GiB"
std::string to_string(const DeviceInfo& info);

int device_count();

/// One GPU's primary context, shared with the CUDA runtime and PyTorch. Cheap to copy.
class Context {
 public:
  /// Throws InvalidArgument if there is no such device, Unsupported without a driver.
  static Context open(int ordinal);

  int ordinal() const noexcept { return state_->ordinal; }
  const DeviceInfo& info() const noexcept { return state_->info; }
  CUcontext handle() const noexcept { return state_->handle; }
  friend bool operator==(const Context&, const Context&) = default;

 private:
  struct State {
    State(int index, CUdevice which);
    ~State();
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    int ordinal;
    CUdevice device;
    CUcontext handle = nullptr;
    DeviceInfo info;
  };
  explicit Context(std::shared_ptr<const State> state) : state_(std::move(state)) {}

  std::shared_ptr<const State> state_;
};

/// Makes a context current on this thread until the end of the scope.
class Current {
 public:
  /// Throws DeviceError if the driver refuses.
  explicit Current(CUcontext context);
  explicit Current(const Context& context) : Current(context.handle()) {}
  ~Current();
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  bool pushed_ = false;
};

}  // namespace switchyard::cuda
