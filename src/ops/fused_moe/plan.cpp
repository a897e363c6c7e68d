#include "ops/fused_moe/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/math.h"

namespace switchyard::fused_moe {
namespace {

constexpr int kMaxTokens = 128;
/// Bytes of weights in flight that keep an SM's share of the memory busy, and not much more: a
/// longer queue delays the token tiles and makes SMs finish unevenly (bench/results).
constexpr int kStages = 6;

constexpr std::string_view kActivations[] = {"swiglu", "swiglu_oai", "geglu_tanh", "situ"};

std::string_view name(Activation activation) {
  return kActivations[static_cast<std::size_t>(activation)];
}

}  // namespace

std::string to_string(const Problem& p) {
  return fmt::format("fused_moe t{} h{} i{} e{} k{} bf16 {}{}", p.tokens, p.hidden, p.intermediate,
                     p.experts, p.top_k, name(p.activation), p.bias ? " bias" : "");
}

Tiles tiles(const Problem& p) {
  Tiles t = {.row_tiles1 = ceil_div(2 * p.intermediate, Config::kRows),
             .k_tiles1 = ceil_div(p.hidden, Config::kDepth),
             .row_tiles2 = ceil_div(p.hidden, Config::kRows),
             .k_tiles2 = ceil_div(p.intermediate, Config::kDepth),
             .gate_up_bytes = 0,
             .down_bytes = 0};
  t.gate_up_bytes = std::int64_t{Config::kWeightBytes} * t.row_tiles1 * t.k_tiles1;
  t.down_bytes = std::int64_t{Config::kWeightBytes} * t.row_tiles2 * t.k_tiles2;
  return t;
}

std::optional<std::string> sm90_declines(const Problem& p, const cuda::DeviceInfo& device) {
  if (device.sm / 10 != 9) return fmt::format("needs sm_90, the device is sm_{}", device.sm);
  if (p.tokens > kMaxTokens)
    return fmt::format("serves at most {} tokens, got {}", kMaxTokens, p.tokens);
  if (p.experts > 1024) return fmt::format("serves at most 1024 experts, got {}", p.experts);
  if (p.top_k > 32) return fmt::format("serves top_k up to 32, got {}", p.top_k);
  if (p.hidden % 8 != 0)
    return fmt::format("reads tokens 16 bytes at a time: needs h % 8 == 0, got h={}", p.hidden);
  return std::nullopt;
}

std::vector<Config> candidates(const Problem& p, const cuda::DeviceInfo& device) {
  std::vector<Config> all;
  int tokens = 8;
  while (tokens < p.tokens) tokens *= 2;
  const int block = std::min(tokens, 64);
  for (const int stages : {kStages, kStages - 1, kStages + 3, kStages - 2}) {
    const Config config = {.tokens = tokens,
                           .block = block,
                           .stages = stages,
                           .activation = p.activation,
                           .bias = p.bias};
    // Static shared memory: barriers and the list of blocks.
    constexpr int kStatic = 2 * 8 * 16 + 4 * (2 * Config::kMaxBlocks + 1);
    if (config.smem_bytes() + kStatic <= device.smem_per_block) all.push_back(config);
  }
  return all;
}

std::string to_string(const Config& c) {
  return fmt::format("sm90 bf16 tokens {} block {} stages {}", c.tokens, c.block, c.stages);
}

jit::Program program(const Config& c, int sm) {
  return {.file = "ops/fused_moe/kernel_sm90.cuh",
          .instance = fmt::format(
              "switchyard::fused_moe::kernel<switchyard::fused_moe::Config{{{}, {}, {}, "
              "switchyard::fused_moe::Activation::{}, {}}}>",
              c.tokens, c.block, c.stages, name(c.activation), c.bias),
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

Scratch scratch(const Problem& p, const Config& c, const cuda::DeviceInfo& device) {
  const std::int64_t ctas = device.multiprocessors;
  return {.act = std::int64_t{p.tokens} * p.top_k * tiles(p).row_tiles1 * (Config::kRows / 2) * 2,
          .partial = ctas * Config::kRows * std::max(c.tokens, c.block) * 4,
          .flags = (ctas + 1) * 4};
}

}  // namespace switchyard::fused_moe
