#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cuda/memory.h"
#include "cuda/stream.h"
#include "jit/kernel.h"
#include "ops/fused_moe/plan.h"
#include "ops/route/plan.h"

/// Routing and the fused layer on a GPU, with the buffers they need: for tests and the benchmark.
namespace switchyard::gpu {

/// Device, stream and kernels.
struct Gpu {
  cuda::Context context;
  cuda::Current current;
  cuda::Stream stream;
  jit::Loader loader;

  Gpu();
  /// Why there is nothing to run on; empty if there is.
  static std::optional<std::string> declines();
};

template <class T>
cuda::DeviceBuffer upload(const Gpu& gpu, const std::vector<T>& host) {
  cuda::DeviceBuffer buffer(gpu.context, host.size() * sizeof(T));
  cuda::copy_to_device(buffer.data(), host.data(), buffer.bytes(), gpu.stream.get());
  gpu.stream.synchronize();
  return buffer;
}

/// Weights in tiles, on the device.
struct Weights {
  cuda::DeviceBuffer gate_up, down, gate_up_bias, down_bias;
};

/// The two launches, their buffers and arguments.
class Layer {
 public:
  Layer(Gpu& gpu, const fused_moe::Problem& problem, const route::Problem& routing,
        const fused_moe::Config& config, const Activation& activation, const Weights& weights);

  /// tokens [T, H] bf16 and logits [T, E] f32 on the device -> out() [T, H] bf16.
  void enqueue(const std::uint16_t* tokens, const float* logits, const float* correction,
               int count);

  std::vector<std::uint16_t> out(int count) const;
  std::vector<int> expert_ids(int count) const;
  int blocks() const;
  /// Fills everything that a run must overwrite.
  void poison(unsigned char value);

 private:
  template <class T>
  std::vector<T> read(const cuda::DeviceBuffer& buffer, std::size_t count) const;

  Gpu& gpu_;
  fused_moe::Problem problem_;
  cuda::DeviceBuffer ids_, weights_, lists_, act_, partial_, flags_, out_;
  route::Args route_args_{};
  fused_moe::Args args_{};
  jit::Launch route_, fused_;
};

}  // namespace switchyard::gpu
