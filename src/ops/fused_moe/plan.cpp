#include "ops/fused_moe/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/math.h"
#include "ops/expected_rows.h"

namespace switchyard::fused_moe {
namespace {

constexpr int kMaxTokens = 128;
/// Bytes of weights in flight that keep an SM's share of the memory busy, and not much more: a
/// longer queue delays the token tiles and makes SMs finish unevenly (docs/performance.md).
constexpr int kStages = 6;

std::string instance(const device::Selection& s) {
  return fmt::format(
      "switchyard::device::Selection{{{}, {}, switchyard::device::Score({}), "
      "switchyard::device::Normalize({}), switchyard::device::Groups({}), {}, {}, {}}}",
      s.top_k, s.per_lane, static_cast<int>(s.score), static_cast<int>(s.normalize),
      static_cast<int>(s.group), s.groups, s.topk_groups, s.group_size);
}

/// The kernel routes small batches itself: launches cost more than choosing in every CTA.
bool routes(const Problem& p) {
  return p.select && p.tokens <= Config::kMaxRouted && p.shared <= 32;
}

std::int64_t outputs(const Problem& p) {
  return device::is_gated(p.activation) ? 2 * std::int64_t{p.intermediate} : p.intermediate;
}

/// Tiles of a list in the phase that has more.
std::int64_t tiles(const Problem& p) {
  return std::max(
      ceil_div<std::int64_t>(outputs(p), Config::kRows) * ceil_div(p.hidden, Config::kDepth),
      std::int64_t{ceil_div(p.hidden, Config::kRows)} * ceil_div(p.intermediate, Config::kDepth));
}

/// Tiles of a list's `matrices` matrices [I, H], about.
double tiles_of(const Problem& p, int matrices) {
  return static_cast<double>(matrices) * p.intermediate * p.hidden /
         (Config::kRows * Config::kDepth);
}

/// Static shared memory.
int fixed_bytes(const Config& c) {
  const int pairs = c.tokens * (c.select.top_k + c.shared);
  return 2 * 8 * c.stages + (c.routes ? 12 * pairs + 64 : 4 * Config::kMaxBlocks + 128);
}

}  // namespace

std::optional<std::string> declines(const Problem& p, const cuda::DeviceInfo& device) {
  if (device.sm / 10 != 9)
    return fmt::format("fused_moe needs sm_90, the device is sm_{}", device.sm);
  if (p.tokens > kMaxTokens)
    return fmt::format("fused_moe serves at most {} tokens, got {}", kMaxTokens, p.tokens);
  if (p.hidden % 8 != 0)
    return fmt::format("fused_moe copies 16 bytes at a time: needs h % 8 == 0, got h={}", p.hidden);
  if (2 * device.multiprocessors > Config::kMaxCtas)
    return fmt::format("fused_moe serves up to {} multiprocessors, the device has {}",
                       Config::kMaxCtas / 2, device.multiprocessors);
  const int pairs = p.tokens * p.slots_a_token;
  const int blocks = std::min(p.lists, pairs) + pairs / std::min(std::max(p.tokens, 1), 64);
  if (blocks > Config::kMaxBlocks)
    return fmt::format("fused_moe walks at most {} blocks, this batch may have {}",
                       Config::kMaxBlocks, blocks);
  if (blocks * tiles(p) >= Config::kMaxSteps)
    return fmt::format("fused_moe walks fewer than {} tiles, this batch may have {}",
                       Config::kMaxSteps, blocks * tiles(p));
  const int rows = pairs + std::min(p.lists, pairs) * device::kRowAlign;
  if (rows >= device::kMaxBlockRows)
    return fmt::format("fused_moe has fewer than {} rows, this batch may have {}",
                       device::kMaxBlockRows, rows);
  return std::nullopt;
}

std::vector<Config> candidates(const Problem& p, const cuda::DeviceInfo& device) {
  std::vector<Config> all;
  int tokens = 8;
  while (tokens < p.tokens) tokens *= 2;
  // Stages of packed weights hold several tiles: what a step costs beside its products is paid less
  // often. Two CTAs of an SM have twice the warps that decode.
  struct Ring {
    int depth, stages, ctas;
  };
  const bool packed = p.weights != Weights::half;
  const std::vector<Ring> rings =
      packed ? std::vector<Ring>{{4, 4, 2}, {4, 3, 2}, {2, 4, 2}, {2, 3, 2}, {4, 5, 1}, {2, 8, 1}}
             : std::vector<Ring>{{1, kStages, 1}, {1, kStages - 1, 1}, {1, kStages + 2, 1}};
  for (int block = std::min(tokens, 64); block >= (packed ? 8 : std::min(tokens, 64)); block /= 2) {
    for (const auto [depth, stages, ctas] : rings) {
      const bool routes_many = routes(p) && p.select->per_lane > 16;
      if (ctas > 1 && (block > 32 || routes_many)) continue;  // registers
      Config config = {.tokens = tokens,
                       .block = block,
                       .depth = depth,
                       .stages = stages,
                       .ctas = ctas,
                       .activation = p.activation,
                       .bias = p.bias,
                       .weight_on_input = p.weight_on_input,
                       .half = p.half,
                       .weights = p.weights,
                       .routes = routes(p),
                       .shared = 0,
                       .select = {}};
      if (config.routes) config.shared = p.shared, config.select = *p.select;
      const int most = (device.smem_per_block + 1024) / ctas - 1024;
      if (config.smem_bytes() + fixed_bytes(config) <= most) all.push_back(config);
    }
  }
  std::stable_sort(all.begin(), all.end(), [&](const auto& a, const auto& b) {
    return expected_cost(p, a) < expected_cost(p, b);
  });
  return all;
}

double expected_cost(const Problem& p, const Config& c) {
  const ExpectedRows expected = expected_rows(p.tokens, p.slots_a_token, p.lists);
  double blocks = 0;
  for (const double r : expected.rows) blocks += std::ceil(r / c.block) / expected.rows.size();
  // As measured (docs/performance.md).
  double slower = c.block <= 32 ? 1.02 : 1.12;
  if (c.weights != Weights::half) {
    const double decode = c.ctas == 2 ? 1.3 : 1.9;
    const double columns = 1 + 0.15 * (c.block / 8.0 - 1);
    const double ring = (c.depth == 4 ? 1 : 1.06) * (c.stages * c.depth * c.ctas < 16 ? 1.1 : 1);
    slower = decode * columns * ring;
  }
  constexpr double kFixed = 36e6;  // 9 us
  const double tiles = tiles_of(p, device::is_gated(p.activation) ? 3 : 2);
  return expected.experts * tiles * c.weight_bytes() * blocks * slower + kFixed;
}

std::string to_string(const Config& c) {
  return fmt::format("fused tokens {} block {} depth {} stages {} ctas {}{}", c.tokens, c.block,
                     c.depth, c.stages, c.ctas, c.routes ? " routing" : "");
}

jit::Program program(const Config& c, int sm) {
  return {.file = "ops/fused_moe/kernel_sm90.cuh",
          .instance = fmt::format(
              "switchyard::fused_moe::kernel<switchyard::fused_moe::Config{{{}, {}, {}, {}, {}, "
              "switchyard::device::ActivationCode({}), {}, {}, switchyard::Half({}), "
              "switchyard::Weights({}), {}, {}, {}}}>",
              c.tokens, c.block, c.depth, c.stages, c.ctas, static_cast<int>(c.activation), c.bias,
              c.weight_on_input, static_cast<int>(c.half), static_cast<int>(c.weights), c.routes,
              c.shared, instance(c.select)),
          .arch = jit::architecture(sm),
          .options = {}};
}

jit::Launch launch(const Config& config, jit::Kernel kernel, const cuda::DeviceInfo& device) {
  return {.kernel = std::move(kernel),
          .grid = {static_cast<unsigned>(device.multiprocessors * config.ctas)},
          .block = {static_cast<unsigned>(config.threads())},
          .cluster = {},
          .smem_bytes = config.smem_bytes(),
          .overlap_previous = true};
}

Scratch scratch(const Problem& p, const Config& c, int rows, const cuda::DeviceInfo& device) {
  const std::int64_t ctas = device.multiprocessors * c.ctas,
                     width = ceil_div<std::int64_t>(outputs(p), Config::kRows) * c.act_rows();
  return {.act = std::int64_t{rows} * width * 2,
          .partial = ctas * Config::kRows * std::max(c.tokens, c.block) * 4,
          .marks = static_cast<int>(2 * ctas + 1)};
}

}  // namespace switchyard::fused_moe
