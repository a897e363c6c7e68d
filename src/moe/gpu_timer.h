#pragma once

#include "cuda/memory.h"
#include "cuda/stream.h"
#include "jit/kernel.h"

namespace switchyard::moe {

/// Times what a graph takes on a GPU.
class GpuTimer {
 public:
  GpuTimer(const cuda::Context& context, jit::Loader& loader);

  /// Of one replay on `stream`. L2 is cold: other memory was read before it. The replay is enqueued
  /// while that goes on, so that the host's time is not part of it.
  double replay_us(const cuda::Graph& graph, cuda::CUstream stream) const;

 private:
  cuda::DeviceBuffer other_, sink_;
  jit::Launch read_;
  cuda::Event start_, end_;
};

/// Reads `bytes` of memory at the rate that it gives; `sink` has 4 bytes.
jit::Launch read_launch(const cuda::DeviceInfo& device, jit::Loader& loader);
void enqueue_read(const jit::Launch& launch, const void* from, std::size_t bytes, void* sink,
                  cuda::CUstream stream);

}  // namespace switchyard::moe
