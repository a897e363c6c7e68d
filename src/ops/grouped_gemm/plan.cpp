#include "ops/grouped_gemm/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/math.h"
#include "ops/expected_rows.h"

namespace switchyard::grouped_gemm {
namespace {

/// What the sums of the spans in flight take at most, if two spans fit: they stay in L2.
constexpr std::int64_t kSumBytes = 32 << 20;
constexpr int kSpansInFlight = 4, kSpansAtLeast = 8;
constexpr int kFlagAlign = 4;      // words of a bulk copy
constexpr double kReadBytes = 17;  // a clock and SM, from memory
constexpr int kMaxStages = 8;
constexpr int kStatic = 512;  // barriers and such

int stages(const Config& c, const cuda::DeviceInfo& device) {
  const int other = 1024 + kStatic + c.outgoing_bytes() + 2 * c.row_bytes();  // alignment, barriers
  return std::min(kMaxStages, (device.smem_per_block - other) / c.stage_bytes());
}

/// Wide spans read a row's activations less often, narrow ones leave less to store at the end.
Spans spans_of(const GpuProblem& p, const Config& c) {
  if (c.sum == Sum::none) return {.width = ceil_div(p.hidden, c.wide_rows()), .slots = 0};
  const std::int64_t wide_bytes = std::int64_t{std::max(p.tokens, 1)} * c.wide_rows() * 4;
  const int wides = ceil_div(p.hidden, c.wide_rows());
  const auto fit = static_cast<int>(
      std::min<std::int64_t>(wides, std::max<std::int64_t>(2, kSumBytes / wide_bytes)));
  const int width = std::clamp(fit / kSpansInFlight, 1, std::max(1, wides / kSpansAtLeast));
  return {.width = width, .slots = std::min(ceil_div(wides, width), std::max(2, fit / width))};
}

/// Clocks of a step that has `columns` tokens, if memory is quick, as measured
/// (docs/performance.md): the tensor cores take 4 a column and warpgroup, the SM's port to L2
/// brings 40 bytes; packed weights have to be decoded, best by four warpgroups.
double step_clocks(const Config& c, int columns) {
  const double tensor = 4.0 * c.groups * columns;
  const double port =
      (1.0 * c.groups * c.weight_bytes() / c.cluster + 2.0 * Config::kDepth * columns) / 40;
  const double few_stages = c.block > 144 ? 1.06 : 1;
  if (c.weights == Weights::half) return few_stages * std::max(tensor, port);
  const double decode = c.groups * (c.groups == 4 ? 350.0 + 5 * columns : 480.0 + 2 * columns);
  return few_stages * std::max({tensor / 0.62, port, decode});
}

/// What summing up adds, in bytes from memory.
double sum_cost(const GpuProblem& p, Sum sum) {
  const double values = static_cast<double>(p.tokens) * p.slots_a_token * p.hidden;
  constexpr double kLaunch = 12e6;  // 3 us
  return sum == Sum::none ? 4 * values + kLaunch
                          : 8 * values;  // additions to L2, at half of memory's rate
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
  std::vector<GpuConfigs> all;
  constexpr int kBlocks[] = {16,  32,  64,  96,
                             128, 144, 160, 176};  // each with the one before it as `narrow`
  struct Shape {
    int cluster, groups;
  };
  for (const auto [cluster, groups] : {Shape{1, 4}, Shape{1, 2}, Shape{2, 2}}) {
    for (const int& block : kBlocks) {
      if (cluster > 1 && block < 64) continue;  // two more blocks are better than one of each CTA
      if (groups > 2 && (block > 32 || p.weights == Weights::half)) continue;  // registers
      if (block > 144 && (cluster > 1 || p.weights != Weights::half)) continue;
      for (const Sum sum : {Sum::exact, Sum::none}) {
        if ((groups > 2 || block > 144) && sum != Sum::none) continue;  // registers
        if (sum == Sum::none && p.half == Half::fp16) continue;  // rows would be as coarse as `out`
        Config c = {.phase = Phase::fc1,
                    .block = block,
                    .narrow = &block == kBlocks ? block : *(&block - 1),
                    .cluster = cluster,
                    .groups = groups,
                    .stages = 0,
                    .sum = sum,
                    .activation = p.activation,
                    .bias = p.bias,
                    .weight_on_input = p.weight_on_input,
                    .half = p.half,
                    .weights = p.weights};
        GpuConfigs pair = {.fc1 = c, .fc2 = c, .spans = spans_of(p, c)};
        pair.fc2.phase = Phase::fc2;
        pair.fc2.activation = device::ActivationCode::identity;
        pair.fc1.stages = stages(pair.fc1, device);
        pair.fc2.stages = stages(pair.fc2, device);
        all.push_back(pair);
      }
    }
  }
  std::stable_sort(all.begin(), all.end(), [&](const auto& a, const auto& b) {
    return expected_cost(p, a, device.multiprocessors) <
           expected_cost(p, b, device.multiprocessors);
  });
  return all;
}

double expected_cost(const GpuProblem& p, const GpuConfigs& configs, int multiprocessors) {
  const Config& c = configs.fc1;
  const double workers = std::max(1, multiprocessors / c.cluster);
  const ExpectedRows expected = expected_rows(p.tokens, p.slots_a_token, p.lists);
  double blocks = 0, clocks = 0;  // an expert has, a block's step takes
  for (const double r : expected.rows) {
    const double some = std::ceil(r / c.group());
    const double tile = r / some / c.cluster;
    blocks += some / expected.rows.size();
    clocks += some * step_clocks(c, tile <= c.narrow ? c.narrow : c.block) / expected.rows.size();
  }
  clocks /= blocks;
  // A phase takes as long as the weights of all, or about as the SMs that have a tile more than
  // others, and either is a little in the other's way.
  const auto phase = [&](int outputs, int depth) {
    const double wides = expected.experts * ceil_div(outputs, c.wide_rows());
    const double memory = wides * c.groups * c.weight_bytes() / kReadBytes / multiprocessors;
    const double tiles = wides * blocks / workers;
    const double compute = (tiles + std::ceil(tiles)) / 2 * clocks;
    return ceil_div(depth, Config::kDepth) *
           (std::max(memory, compute) + 0.1 * std::min(memory, compute));
  };
  const int outputs = (device::is_gated(p.activation) ? 2 : 1) * p.intermediate;
  constexpr double kFixed = 72e6;  // 18 us
  return (phase(outputs, p.hidden) + phase(p.hidden, p.intermediate)) * kReadBytes *
             multiprocessors +
         sum_cost(p, configs.fc2.sum) + kFixed;
}

std::string to_string(const Config& c) {
  return fmt::format("sm90 {} block {} narrow {} cluster {} groups {} stages {}{}",
                     c.phase == Phase::fc1 ? "fc1" : "fc2", c.block, c.narrow, c.cluster, c.groups,
                     c.stages, c.sum == Sum::none ? " rows" : "");
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
  const std::int64_t act = rows * width * 2;
  if (c.fc2.sum == Sum::none)
    return {.act = act,
            .sums = 0,
            .rows = std::int64_t{rows} * p.hidden * 2,
            .spans = 0,
            .bounds = kFlagAlign,
            .flags = kFlagAlign + rows};
  const std::int64_t wide_bytes = std::int64_t{p.tokens} * c.fc2.wide_rows() * 4;
  const int spans = ceil_div(ceil_div(p.hidden, c.fc2.wide_rows()), c.spans.width);
  return {.act = act,
          .sums = c.spans.slots * c.spans.width * wide_bytes,
          .rows = 0,
          .spans = spans,
          .bounds = round_up(1 + 2 * spans, kFlagAlign),
          .flags = round_up(1 + 2 * spans, kFlagAlign) + rows};
}

}  // namespace switchyard::grouped_gemm
