#include "ops/dense_moe/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/math.h"

namespace switchyard::dense_moe {
namespace {

constexpr int kColumns[] = {8, 16, 32, 64, 96, 128};
constexpr int kSplits[] = {0, 1, 2, 4};
constexpr int kMaxStages = 8;
constexpr int kStatic = 1024;  // barriers and such
constexpr int kAlignment = 256;

int row_tiles(const GpuProblem& p) {
  return p.phase == Phase::fc1 ? ceil_div(p.intermediate, 64) : ceil_div(p.hidden, 128);
}
int k_tiles(const GpuProblem& p) {
  return ceil_div(p.width(), Config::kDepth);
}
/// Experts whose activations differ.
int operands(const GpuProblem& p) {
  return p.phase == Phase::fc1 ? 1 : p.experts;
}
std::int64_t jobs(const GpuProblem& p, const Config& c) {
  return std::int64_t{ceil_div(ceil_div(row_tiles(p), c.row_tiles()), c.cluster)} *
         blocks_of(p.tokens, c).count * (p.phase == Phase::fc1 ? p.experts : 1);
}
int ctas(const Config& c, const cuda::DeviceInfo& device) {
  return c.ctas * device.multiprocessors / c.cluster * c.cluster;
}
std::int64_t slots(const GpuProblem& p, const Tactic& t, const cuda::DeviceInfo& device) {
  return t.split > 0 ? jobs(p, t.config) * t.split * t.config.cluster : ctas(t.config, device);
}

/// As many stages as fit.
int stages(Config c, const cuda::DeviceInfo& device) {
  c.stages = 0;
  const int room = (device.smem_per_block + 1024) / c.ctas - 1024 - kStatic;
  return std::min(kMaxStages, (room - c.smem_bytes()) / c.stage_bytes());
}

/// Every shape of a CTA's work.
std::vector<Config> configs(const GpuProblem& p, const cuda::DeviceInfo& device) {
  struct Shape {
    int least, most;  // columns
    int groups, ctas, cluster, depth;
    bool wide, swap;
  };
  // What is best for some batch of the reference systems' shape, and what their tactics name
  // (docs/densegemm.md). More columns by warps, and fewer by warpgroups, lose everywhere.
  constexpr Shape kShapes[] = {
      {8, 16, 4, 1, 1, 4, false, true},   {8, 16, 2, 2, 1, 4, false, true},
      {16, 32, 4, 1, 1, 4, false, false}, {16, 32, 2, 2, 1, 4, false, false},
      {16, 32, 4, 1, 1, 4, true, true},   {16, 128, 4, 1, 1, 2, true, true},
      {64, 64, 4, 1, 1, 4, true, true},   {64, 128, 4, 1, 2, 2, true, true},
      {96, 128, 2, 1, 1, 2, true, true}};
  std::vector<Config> all;
  for (const int columns : kColumns) {
    if (columns > 8 && columns >= 2 * round_up(p.tokens, 8)) continue;  // half would be padding
    for (const Shape& s : kShapes) {
      if (columns < s.least || columns > s.most) continue;
      Config c = {.phase = p.phase,
                  .out = p.out,
                  .columns = columns,
                  .groups = s.groups,
                  .depth = s.depth,
                  .stages = 0,
                  .ctas = s.ctas,
                  .cluster = s.cluster,
                  .wide = s.wide,
                  .swap = s.swap,
                  .post = p.post};
      c.stages = stages(c, device);
      if (c.stages >= 2) all.push_back(c);
    }
  }
  return all;
}

}  // namespace

std::string name(Reason reason) {
  switch (reason) {
    case Reason::sm_unsupported:
      return "SM_UNSUPPORTED";
    case Reason::dtype_unsupported:
      return "DTYPE_UNSUPPORTED";
    case Reason::shape_unaligned:
      return "SHAPE_UNALIGNED";
    case Reason::shape_too_large:
      return "SHAPE_TOO_LARGE";
    case Reason::quant_unsupported:
      return "QUANT_UNSUPPORTED";
    case Reason::activation_unsupported:
      return "ACTIVATION_UNSUPPORTED";
    case Reason::topology_unsupported:
      return "TOPOLOGY_UNSUPPORTED";
    case Reason::layer_unsupported:
      return "LAYER_UNSUPPORTED";
  }
  return "UNKNOWN";
}

std::optional<Decline> declines(const GpuProblem& p, const cuda::DeviceInfo& device) {
  if (device.sm / 10 != 9)
    return Decline{Reason::sm_unsupported,
                   fmt::format("dense_moe needs sm_90, the device is sm_{}", device.sm)};
  if (p.phase == Phase::fc2 && p.out == Out::fp4)
    return Decline{Reason::dtype_unsupported, "dense_fc2 gives bf16, f16 or f32, not f4_e2m1"};
  if (p.hidden % 16 != 0)
    return Decline{Reason::shape_unaligned,
                   fmt::format("dense_moe needs h % 16 == 0, got h={}", p.hidden)};
  if (p.intermediate % 16 != 0)
    return Decline{Reason::shape_unaligned,
                   fmt::format("dense_moe needs i % 16 == 0, got i={}", p.intermediate)};
  // Kernels count units, jobs and columns in 32 bits.
  const std::int64_t most = std::numeric_limits<std::int32_t>::max();
  const std::int64_t wide = std::int64_t{p.experts} * std::max(p.intermediate, k_tiles(p)),
                     tokens = std::int64_t{p.tokens} + 128;
  if (wide > most || tokens * p.experts > most || tokens * k_tiles(p) * operands(p) * 4 > most ||
      std::int64_t{row_tiles(p)} * p.experts * (tokens / 8) * 4 > most)
    return Decline{Reason::shape_too_large,
                   fmt::format("dense_moe counts in 32 bits, t={} e={} h={} i={} is too large",
                               p.tokens, p.experts, p.hidden, p.intermediate)};
  return std::nullopt;
}

std::string to_string(const Tactic& t) {
  const Config& c = t.config;
  return fmt::format("({},{})({},1) {} depth {} stages {} x{} sk{} swap{}", c.groups * 64,
                     c.columns, c.cluster, c.wide ? "wgmma" : "mma", c.depth, c.stages, c.ctas,
                     t.split ? std::to_string(t.split) : "even", c.swap ? 1 : 0);
}

std::optional<std::string> declines(const GpuProblem& p, const Tactic& t,
                                    const cuda::DeviceInfo& device) {
  if (t.split < 0 || (t.split > 0 && t.split != 1 && t.split != 2 && t.split != 4))
    return fmt::format("split: expected 1, 2 or 4, or 0 for equal shares, got {}", t.split);
  if (p.phase == Phase::fc1 && t.split != 1)
    return fmt::format("split: FC1 is not split, got {}", t.split);
  if (t.split > 0 && p.experts % t.split != 0)
    return fmt::format("split: parts are whole experts, {} experts do not make {} parts", p.experts,
                       t.split);
  const std::vector<Config> all = configs(p, device);
  if (std::find(all.begin(), all.end(), t.config) == all.end())
    return fmt::format("{}: not a tactic of this problem", to_string(t));
  return std::nullopt;
}

std::vector<Tactic> tactics(const GpuProblem& p, const cuda::DeviceInfo& device) {
  std::vector<Tactic> all;
  if (declines(p, device)) return all;
  for (const Config& c : configs(p, device))
    for (const int split : kSplits)
      if (!declines(p, {c, split}, device)) all.push_back({c, split});
  std::stable_sort(all.begin(), all.end(), [&](const Tactic& a, const Tactic& b) {
    return expected_us(p, a, device) < expected_us(p, b, device);
  });
  return all;
}

double expected_us(const GpuProblem& p, const Tactic& t, const cuda::DeviceInfo& device) {
  const Config& c = t.config;
  const Blocks blocks = blocks_of(p.tokens, c);
  const int workers = dense_moe::ctas(c, device) / c.cluster;
  // Steps: a CTA's rows, 64 columns of K.
  const double units = static_cast<double>(jobs(p, c)) * (p.phase == Phase::fc1 ? 1 : p.experts);
  const double steps = units * c.cluster * k_tiles(p);
  const double parts = t.split > 0 ? static_cast<double>(jobs(p, c)) * t.split : units;
  const double rounds = std::ceil(parts / workers) * workers / parts;  // the busiest, to the mean
  // Clocks of an SM's step (bench/results, rows of dense_bench): memory, what all SMs get from L2,
  // decoding, the tensor cores. Two CTAs that get the same tokens get them no faster.
  const double tiles = c.row_tiles(), columns = blocks.rows;
  const bool busy = c.ctas * c.groups >= 4;
  const double memory = tiles * Config::kTileBytes / 18.0;
  const double port = (tiles * Config::kTileBytes + columns * 128.0) / 18.5;
  const double tensor = tiles * (c.wide ? 160 + 4.6 * columns : 8 * columns) * (busy ? 1.0 : 1.25);
  const double decode = tiles * ((busy ? 265 : 400) + (c.wide ? 1.2 : 3.6) * columns);
  double clocks = std::max({memory, port, tensor, decode});
  if (c.depth < 4) clocks *= 1.02;
  if (c.stages < 3) clocks *= 1.15;
  if (p.phase == Phase::fc1) clocks *= 0.84;  // FC2's products end with every expert
  const double clock_mhz = device.clock_khz / 1000.0 * 0.88;
  return steps / device.multiprocessors * clocks * rounds / clock_mhz + 6;
}

Blocks blocks_of(int tokens, const Config& c) {
  const int count = std::max(1, ceil_div(tokens, c.columns));
  return {.count = count, .rows = std::max(8, round_up(ceil_div(tokens, count), 8))};
}

jit::Program program(const Config& c, int sm) {
  return {.file = "ops/dense_moe/kernel_sm90.cuh",
          .instance = fmt::format(
              "switchyard::dense_moe::kernel<switchyard::dense_moe::Config{{"
              "switchyard::dense_moe::Phase({}), switchyard::dense_moe::Out({}), {}, {}, {}, {}, "
              "{}, {}, {}, {}, {}}}>",
              static_cast<int>(c.phase), static_cast<int>(c.out), c.columns, c.groups, c.depth,
              c.stages, c.ctas, c.cluster, c.wide, c.swap, c.post),
          .arch = jit::architecture(sm),
          .options = {}};
}

jit::Program alpha_program(int sm) {
  return {.file = "ops/dense_moe/alpha.cuh",
          .instance = fmt::format("switchyard::dense_moe::alpha<{}>", kAlphaThreads),
          .arch = jit::architecture(sm),
          .options = {}};
}

jit::Launch alpha_launch(int tokens, jit::Kernel kernel) {
  return {.kernel = std::move(kernel),
          .grid = {static_cast<unsigned>(tokens + 1)},
          .block = {static_cast<unsigned>(kAlphaThreads)},
          .cluster = {},
          .smem_bytes = 0,
          .overlap_previous = true};
}

jit::Launch launch(const GpuProblem& p, const Tactic& t, jit::Kernel kernel,
                   const cuda::DeviceInfo& device) {
  const std::int64_t most = ctas(t.config, device),
                     needed = t.split > 0 ? jobs(p, t.config) * t.split * t.config.cluster : most;
  return {.kernel = std::move(kernel),
          .grid = {static_cast<unsigned>(std::min(most, needed))},
          .block = {static_cast<unsigned>(t.config.threads())},
          .cluster = {static_cast<unsigned>(t.config.cluster)},
          .smem_bytes = t.config.smem_bytes(),
          .overlap_previous = true};
}

Scratch scratch(const GpuProblem& p, const Tactic& t, const cuda::DeviceInfo& device) {
  const Blocks blocks = blocks_of(p.tokens, t.config);
  const std::int64_t rows = std::int64_t{blocks.count} * blocks.rows;
  const std::int64_t count = p.phase == Phase::fc1 ? 0 : slots(p, t, device);
  Scratch s = {};
  const auto take = [&](std::int64_t bytes) {
    const std::int64_t at = s.bytes;
    s.bytes += round_up<std::int64_t>(bytes, kAlignment);
    return at;
  };
  s.tiles = take(rows * 2 * Config::kDepth * k_tiles(p) * operands(p));
  s.steps = take(p.phase == Phase::fc2 ? rows * p.experts * 4 : 0);
  s.rests = take(p.phase == Phase::fc2 ? rows * p.experts * 4 : 0);
  s.partial = take(count * t.config.consumers() * t.config.columns * 2);
  s.marks = take(count * 8);
  s.barrier = take(8);
  return s;
}

}  // namespace switchyard::dense_moe
