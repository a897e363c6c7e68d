#include "ops/grouped_gemm/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/math.h"

namespace switchyard::grouped_gemm {
namespace {

/// FC2's rows of a span stay in L2 beside what streams through it.
constexpr std::int64_t kSpanBytes = 8 << 20;
constexpr int kSlots = 4;
constexpr int kMaxStages = 8;

int spans(const GpuProblem& p, const Config& fc2) {
  return ceil_div(ceil_div(p.hidden, Config::kRows), fc2.span);
}

int stages(int block, const cuda::DeviceInfo& device) {
  const int stage = Config::kWeightBytes + block * Config::kDepth * 2;
  return std::min(kMaxStages, (device.smem_per_block - 1024 - 2 * 8 * kMaxStages) / stage);
}

}  // namespace

std::optional<std::string> gpu_declines(const GpuProblem& p, const cuda::DeviceInfo& device) {
  if (device.sm / 10 != 9)
    return fmt::format("grouped_gemm needs sm_90, the device is sm_{}", device.sm);
  if (p.hidden % 8 != 0)
    return fmt::format("grouped_gemm copies 16 bytes at a time: needs h % 8 == 0, got h={}",
                       p.hidden);
  return std::nullopt;
}

std::vector<GpuConfigs> gpu_candidates(const GpuProblem& p, const cuda::DeviceInfo& device) {
  const double pairs = static_cast<double>(p.tokens) * p.slots_a_token;
  const double mean = pairs / std::max(1, p.lists);
  const std::int64_t row_bytes = static_cast<std::int64_t>(pairs) * Config::kRows * 4;
  const int span = static_cast<int>(
      std::clamp<std::int64_t>(kSpanBytes / std::max<std::int64_t>(row_bytes, 1), 1, 8));
  std::vector<GpuConfigs> all;
  for (const int block : {32, 64, 96, 128, 160, 192, 256}) {
    Config c = {.phase = Phase::fc1,
                .block = block,
                .narrow = block <= 32 ? block : 32,
                .stages = stages(block, device),
                .span = 1,
                .slots = 1,
                .activation = p.activation,
                .bias = p.bias,
                .weight_on_input = p.weight_on_input,
                .half = p.half};
    GpuConfigs pair = {.fc1 = c, .fc2 = c};
    pair.fc2.phase = Phase::fc2;
    pair.fc2.activation = device::ActivationCode::identity;
    pair.fc2.span = span;
    pair.fc2.slots = kSlots;
    all.push_back(pair);
  }
  // Clocks of a stage: the tensor cores take 4 a column, the SM's port to L2 about 44 bytes a
  // clock.
  const auto clocks = [](int columns) {
    return std::max(4.0 * columns, (Config::kWeightBytes + 2.0 * Config::kDepth * columns) / 44);
  };
  const auto cost = [&](const GpuConfigs& c) {
    const double most = mean + std::sqrt(mean);
    const int whole = static_cast<int>(most / c.fc1.block);
    const double rest = most - whole * c.fc1.block;
    return whole * clocks(c.fc1.block) + clocks(rest <= c.fc1.narrow ? c.fc1.narrow : c.fc1.block);
  };
  std::stable_sort(all.begin(), all.end(),
                   [&](const auto& a, const auto& b) { return cost(a) < cost(b); });
  return all;
}

std::string to_string(const Config& c) {
  const std::string text =
      fmt::format("sm90 {} block {} narrow {} stages {}", c.phase == Phase::fc1 ? "fc1" : "fc2",
                  c.block, c.narrow, c.stages);
  return c.phase == Phase::fc1 ? text : text + fmt::format(" span {} slots {}", c.span, c.slots);
}

jit::Program program(const Config& c, int sm) {
  return {.file = "ops/grouped_gemm/kernel_sm90.cuh",
          .instance = fmt::format(
              "switchyard::grouped_gemm::kernel<switchyard::grouped_gemm::Config{{"
              "switchyard::grouped_gemm::Phase({}), {}, {}, {}, {}, {}, "
              "switchyard::device::ActivationCode({}), {}, {}, switchyard::Half({})}}>",
              static_cast<int>(c.phase), c.block, c.narrow, c.stages, c.span, c.slots,
              static_cast<int>(c.activation), c.bias, c.weight_on_input, static_cast<int>(c.half)),
          .arch = jit::architecture(sm),
          .options = {}};
}

jit::Launch launch(const Config& config, jit::Kernel kernel, const cuda::DeviceInfo& device) {
  return {.kernel = std::move(kernel),
          .grid = {static_cast<unsigned>(device.multiprocessors)},
          .block = {Config::kThreads},
          .cluster = {},
          .smem_bytes = config.smem_bytes(),
          .overlap_previous = true};
}

Scratch scratch(const GpuProblem& p, const GpuConfigs& c, int rows) {
  const int outputs = device::is_gated(p.activation) ? 2 * p.intermediate : p.intermediate;
  const std::int64_t width = std::int64_t{ceil_div(outputs, Config::kRows)} * c.fc1.act_rows();
  const int in_flight = std::min(c.fc2.slots, spans(p, c.fc2));
  return {.act = rows * width * 2,
          .rows = std::int64_t{rows} * in_flight * c.fc2.span * Config::kRows * 4,
          .flags = 2 * spans(p, c.fc2)};
}

}  // namespace switchyard::grouped_gemm
