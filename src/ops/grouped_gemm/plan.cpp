#include "ops/grouped_gemm/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/math.h"

namespace switchyard::grouped_gemm {
namespace {

/// What the sums of the spans in flight take at most, if two spans fit: they stay in L2.
constexpr std::int64_t kSumBytes = 32 << 20;
constexpr int kSpansInFlight = 4, kSpansAtLeast = 8;
constexpr int kMaxStages = 8;
constexpr int kStatic = 512;  // barriers and such

int stages(const Config& c, const cuda::DeviceInfo& device) {
  const int other = 1024 + kStatic + 16 * c.block;  // alignment, barriers, what rows() takes
  return std::min(kMaxStages, (device.smem_per_block - other) / c.stage_bytes());
}

/// Wide spans read a row's activations less often, narrow ones leave less to store at the end.
Spans spans_of(const GpuProblem& p, const Config& c) {
  const std::int64_t wide_bytes = std::int64_t{std::max(p.tokens, 1)} * c.wide_rows() * 4;
  const int wides = ceil_div(p.hidden, c.wide_rows());
  const auto fit = static_cast<int>(
      std::min<std::int64_t>(wides, std::max<std::int64_t>(2, kSumBytes / wide_bytes)));
  const int width = std::clamp(fit / kSpansInFlight, 1, std::max(1, wides / kSpansAtLeast));
  return {.width = width, .slots = std::min(ceil_div(wides, width), std::max(2, fit / width))};
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
  std::vector<GpuConfigs> all;
  constexpr int kBlocks[] = {16, 32, 64, 96, 128, 144};  // each with the one before it as `narrow`
  struct Shape {
    int cluster, groups;
  };
  for (const auto [cluster, groups] : {Shape{1, 4}, Shape{1, 2}, Shape{2, 2}}) {
    for (const int& block : kBlocks) {
      if (cluster > 1 && block < 64) continue;  // two more blocks are better than one of each CTA
      if (groups > 2 && (block > 32 || p.weights == Weights::half)) continue;  // registers
      Config c = {.phase = Phase::fc1,
                  .block = block,
                  .narrow = &block == kBlocks ? block : *(&block - 1),
                  .cluster = cluster,
                  .groups = groups,
                  .stages = 0,
                  .sum = Sum::exact,
                  .activation = p.activation,
                  .bias = p.bias,
                  .weight_on_input = p.weight_on_input,
                  .half = p.half,
                  .weights = p.weights};
      c.stages = stages(c, device);
      GpuConfigs pair = {.fc1 = c, .fc2 = c, .spans = spans_of(p, c)};
      pair.fc2.phase = Phase::fc2;
      pair.fc2.activation = device::ActivationCode::identity;
      all.push_back(pair);
    }
  }
  // Clocks of a step: the tensor cores take 8 a column, the SM's port to L2 about 32 bytes a clock.
  const auto clocks = [](const Config& c, int columns) {
    return std::max(8.0 * columns, (1.0 * c.groups * c.weight_bytes() / c.cluster +
                                    2.0 * Config::kDepth * columns) /
                                       32) *
           2 / c.groups;
  };
  const auto cost = [&](const GpuConfigs& c) {
    const Config& f = c.fc1;
    // Experts have about mean +- sqrt(mean) rows.
    double sum = 0;
    for (const double rows : {mean - std::sqrt(mean), mean, mean + std::sqrt(mean)}) {
      const double groups = std::max(1.0, std::ceil(rows / f.group()));
      const double tile = rows / groups / f.cluster;
      sum += groups * f.cluster * clocks(f, tile <= f.narrow ? f.narrow : f.block);
    }
    return sum;
  };
  std::stable_sort(all.begin(), all.end(),
                   [&](const auto& a, const auto& b) { return cost(a) < cost(b); });
  return all;
}

std::string to_string(const Config& c) {
  return fmt::format("sm90 {} block {} narrow {} cluster {} groups {} stages {}{}",
                     c.phase == Phase::fc1 ? "fc1" : "fc2", c.block, c.narrow, c.cluster, c.groups,
                     c.stages, c.sum == Sum::atomic ? " atomic" : "");
}

jit::Program program(const Config& c, int sm) {
  return {.file = "ops/grouped_gemm/kernel_sm90.cuh",
          .instance =
              fmt::format("switchyard::grouped_gemm::kernel<switchyard::grouped_gemm::Config{{"
                          "switchyard::grouped_gemm::Phase({}), {}, {}, {}, {}, {}, "
                          "switchyard::grouped_gemm::Sum({}), "
                          "switchyard::device::ActivationCode({}), {}, {}, switchyard::Half({}), "
                          "switchyard::Weights({})}}>",
                          static_cast<int>(c.phase), c.block, c.narrow, c.cluster, c.groups,
                          c.stages, static_cast<int>(c.sum), static_cast<int>(c.activation), c.bias,
                          c.weight_on_input, static_cast<int>(c.half), static_cast<int>(c.weights)),
          .arch = jit::architecture(sm),
          .options = {}};
}

jit::Launch launch(const Config& config, jit::Kernel kernel, const cuda::DeviceInfo& device) {
  return {.kernel = std::move(kernel),
          .grid = {static_cast<unsigned>(device.multiprocessors / config.cluster * config.cluster)},
          .block = {static_cast<unsigned>(config.threads())},
          .cluster = {static_cast<unsigned>(config.cluster)},
          .smem_bytes = config.smem_bytes(),
          .overlap_previous = true};
}

Scratch scratch(const GpuProblem& p, const GpuConfigs& c, int rows) {
  const int outputs = device::is_gated(p.activation) ? 2 * p.intermediate : p.intermediate;
  const std::int64_t width = std::int64_t{ceil_div(outputs, Config::kRows)} * c.fc1.act_rows();
  const std::int64_t wide_bytes = std::int64_t{p.tokens} * c.fc2.wide_rows() * 4;
  const int wides = ceil_div(p.hidden, c.fc2.wide_rows());
  const int spans = ceil_div(wides, c.spans.width);
  return {.act = rows * width * 2,
          .sums = c.spans.slots * c.spans.width * wide_bytes,
          .spans = spans,
          .flags = 1 + 2 * spans + rows};
}

}  // namespace switchyard::grouped_gemm
