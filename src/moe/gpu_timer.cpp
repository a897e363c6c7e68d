#include "moe/gpu_timer.h"

namespace switchyard::moe {
namespace {

/// More than twice of what L2 holds.
constexpr std::size_t kOtherBytes = std::size_t{144} << 20;

}  // namespace

GpuTimer::GpuTimer(const cuda::Context& context, jit::Loader& loader)
    : other_(context, kOtherBytes),
      sink_(context, 4),
      read_(read_launch(context.info(), loader)),
      start_(context, cuda::Timing::on),
      end_(context, cuda::Timing::on) {
  const cuda::Stream stream(context);
  cuda::fill(other_.data(), 0x5a, other_.bytes(), stream.get());
  stream.synchronize();
}

double GpuTimer::replay_us(const cuda::Graph& graph, cuda::CUstream stream) const {
  enqueue_read(read_, other_.data(), other_.bytes(), sink_.data(), stream);
  start_.record(stream);
  graph.launch(stream);
  end_.record(stream);
  return cuda::elapsed_us(start_, end_);
}

jit::Launch read_launch(const cuda::DeviceInfo& device, jit::Loader& loader) {
  return {.kernel = loader.kernel({.file = "tune/ceilings.cuh",
                                   .instance = "switchyard::tune::read_kernel",
                                   .arch = jit::architecture(device.sm),
                                   .options = {}}),
          .grid = {static_cast<unsigned>(device.multiprocessors) * 4},
          .block = {512},
          .cluster = {},
          .smem_bytes = 0,
          .overlap_previous = false};
}

void enqueue_read(const jit::Launch& launch, const void* from, std::size_t bytes, void* sink,
                  cuda::CUstream stream) {
  struct Args {
    const void* from;
    long long count;
    void* sink;
  };
  jit::enqueue(launch, Args{from, static_cast<long long>(bytes / 16), sink}, stream);
}

}  // namespace switchyard::moe
