#include "tests/gpu/fused_moe.h"

#include "cuda/driver.h"
#include "jit/nvrtc.h"

namespace switchyard::gpu {
namespace {

jit::CacheOptions cache_options() {
  jit::CacheOptions options;
  options.directory.clear();  // memory only: a test leaves nothing behind
  return options;
}

/// Rows and blocks that the lists hold at most.
struct ListSizes {
  int rows, blocks;
};
ListSizes list_sizes(const fused_moe::Problem& p) {
  return {p.tokens * p.top_k, fused_moe::Config::kMaxBlocks};
}

}  // namespace

Gpu::Gpu()
    : context(cuda::Context::open(0)),
      current(context),
      stream(context),
      loader(context, std::make_shared<jit::Cache>(cache_options())) {}

std::optional<std::string> Gpu::declines() {
  if (auto reason = cuda::driver_declines()) return reason;
  if (jit::nvrtc().declines) return jit::nvrtc().declines;
  const cuda::DeviceInfo info = cuda::Context::open(0).info();
  if (info.sm / 10 != 9) return "needs sm_90, the device is " + to_string(info);
  return std::nullopt;
}

Layer::Layer(Gpu& gpu, const fused_moe::Problem& problem, const route::Problem& routing,
             const fused_moe::Config& config, const Activation& activation, const Weights& weights)
    : gpu_(gpu), problem_(problem) {
  const cuda::DeviceInfo& device = gpu.context.info();
  const fused_moe::Scratch sizes = fused_moe::scratch(problem, config, device);
  const auto [rows, blocks] = list_sizes(problem);
  const auto bytes = [&](std::int64_t count) {
    return cuda::DeviceBuffer(gpu.context, static_cast<std::size_t>(count));
  };
  ids_ = bytes(rows * 4), weights_ = bytes(rows * 4);
  lists_ = bytes((1 + blocks + blocks + 1 + rows + rows) * 4);
  act_ = bytes(sizes.act), partial_ = bytes(sizes.partial), flags_ = bytes(sizes.flags);
  out_ = bytes(std::int64_t{problem.tokens} * problem.hidden * 2);

  int* lists = lists_.as<int>();
  const int ctas = device.multiprocessors;
  route_args_ = {.expert_ids = ids_.as<int>(),
                 .expert_weights = weights_.as<float>(),
                 .block_count = lists,
                 .block_expert = lists + 1,
                 .block_row = lists + 1 + blocks,
                 .row_token = lists + 2 + 2 * blocks,
                 .row_weight = reinterpret_cast<float*>(lists + 2 + 2 * blocks + rows),
                 .flag = flags_.as<unsigned>(),
                 .experts = problem.experts,
                 .flags = ctas + 1,
                 .scaling = routing.routing.scaling};
  const fused_moe::Tiles tiles = fused_moe::tiles(problem);
  args_ = {.gate_up = weights.gate_up.as<unsigned char>(),
           .down = weights.down.as<unsigned char>(),
           .gate_up_bias = weights.gate_up_bias.as<float>(),
           .down_bias = weights.down_bias.as<float>(),
           .block_count = route_args_.block_count,
           .block_expert = route_args_.block_expert,
           .block_row = route_args_.block_row,
           .row_token = route_args_.row_token,
           .row_weight = route_args_.row_weight,
           .act = act_.as<unsigned short>(),
           .out = out_.as<unsigned short>(),
           .partial = partial_.as<float>(),
           .flag = flags_.as<unsigned>(),
           .arrived = flags_.as<unsigned>() + ctas,
           .hidden = problem.hidden,
           .intermediate = problem.intermediate,
           .row_tiles1 = tiles.row_tiles1,
           .k_tiles1 = tiles.k_tiles1,
           .row_tiles2 = tiles.row_tiles2,
           .k_tiles2 = tiles.k_tiles2,
           .alpha = activation.alpha,
           .beta = activation.beta,
           .limit = activation.limit,
           .linear_beta = activation.linear_beta};
  const route::Config route_config = route::small_batch_config(routing, config.block);
  route_ = route::launch(route_config, gpu.loader.kernel(route::program(route_config, device.sm)));
  fused_ =
      fused_moe::launch(config, gpu.loader.kernel(fused_moe::program(config, device.sm)), device);
}

void Layer::enqueue(const std::uint16_t* tokens, const float* logits, const float* correction,
                    int count) {
  route_args_.logits = logits;
  route_args_.correction = correction;
  route_args_.tokens = args_.tokens_count = count;
  args_.tokens = tokens;
  jit::enqueue(route_, route_args_, gpu_.stream.get());
  jit::enqueue(fused_, args_, gpu_.stream.get());
}

template <class T>
std::vector<T> Layer::read(const cuda::DeviceBuffer& buffer, std::size_t count) const {
  std::vector<T> host(count);
  cuda::copy_to_host(host.data(), buffer.data(), count * sizeof(T), gpu_.stream.get());
  gpu_.stream.synchronize();
  return host;
}

std::vector<std::uint16_t> Layer::out(int count) const {
  return read<std::uint16_t>(
      out_, static_cast<std::size_t>(count) * static_cast<std::size_t>(problem_.hidden));
}
std::vector<int> Layer::expert_ids(int count) const {
  return read<int>(ids_,
                   static_cast<std::size_t>(count) * static_cast<std::size_t>(problem_.top_k));
}
int Layer::blocks() const {
  return read<int>(lists_, 1)[0];
}

void Layer::poison(unsigned char value) {
  for (const cuda::DeviceBuffer* buffer :
       {&ids_, &weights_, &lists_, &act_, &partial_, &flags_, &out_})
    cuda::fill(buffer->data(), value, buffer->bytes(), gpu_.stream.get());
}

}  // namespace switchyard::gpu
