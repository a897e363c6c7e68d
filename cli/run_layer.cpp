#include "cli/run_layer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/progress.h"
#include "cli/run_input.h"
#include "switchyard/error.h"
#include "switchyard/problem.h"

namespace switchyard::cli {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

ActivationFormat activation_format(std::string_view word) {
  using enum ActivationFormat;
  std::vector<std::string_view> names;
  for (const ActivationFormat format :
       {f32, bf16, fp16, fp8_tensor, fp8_token, fp8_block, nvfp4, mxfp8}) {
    names.push_back(name(format));
    if (name(format) == word) return format;
  }
  throw InvalidArgument(
      fmt::format("[run] --act: expected one of {}, got {}.", fmt::join(names, " "), word));
}

std::int64_t weight_bytes(const MoeWeights& weights) {
  std::int64_t bytes = weights.experts.gate_up.bytes() + weights.experts.down.bytes();
  if (weights.shared.down) bytes += weights.shared.gate_up.bytes() + weights.shared.down.bytes();
  return bytes;
}

/// Until half a second has passed, at most 11 times; an honest median of short runs needs several.
void time_runs(const MoePlan& plan, MoeBuffers buffers, RunReport& report) {
  // On a GPU run() has memory of its own.
  const std::size_t bytes = report.device.kind == DeviceKind::cpu ? plan.workspace_bytes() : 0;
  Tensor workspace(DType::u8, {static_cast<std::int64_t>(bytes)});
  buffers.workspace = {workspace.as<std::byte>(), bytes};
  const auto start = std::chrono::steady_clock::now();
  do {
    const auto run_start = std::chrono::steady_clock::now();
    report.counters = plan.run(buffers);
    report.run_us.push_back(seconds_since(run_start) * 1e6);
  } while (seconds_since(start) < 0.5 && report.run_us.size() < 11);
  std::sort(report.run_us.begin(), report.run_us.end());
}

}  // namespace

RunReport run_layer(const RunOptions& options) {
  const Checkpoint checkpoint = Checkpoint::open(options.directory);
  ProgressLine line("loading");
  const LoadOptions load{parse_part(options.tp), parse_part(options.ep), line.callback()};
  RunReport report;
  report.family = checkpoint.family();
  report.layer = checkpoint.layer(options.layer);
  report.config = checkpoint.config(options.layer, load);
  report.tp = load.tp;
  report.ep = load.ep;
  report.device = parse_device(options.device);
  report.device.threads = options.threads;
  if (!options.act.empty()) report.config.act = activation_format(options.act);
  RunInput input;
  if (!options.input.empty()) input = read_input(options.input, report.config);
  for (const std::string& name : input.ignored)
    fmt::print(stderr, "switchyard: {}: tensor `{}` is not an input of run.\n", options.input,
               name);

  const auto start = std::chrono::steady_clock::now();
  MoeWeights weights = checkpoint.load(options.layer, load);
  report.load_seconds = seconds_since(start);
  report.weight_bytes = weight_bytes(weights);
  if (options.input.empty())
    input = random_input(report.config, weights, options.tokens, options.seed);

  const std::int64_t tokens = input.count();
  report.out = Tensor::zeros(input.tokens.dtype(), input.tokens.shape());
  report.expert_ids = Tensor::zeros(DType::i32, {tokens, report.config.top_k});
  report.expert_weights = Tensor::zeros(DType::f32, {tokens, report.config.top_k});
  const MoeBuffers buffers{.tokens = std::as_const(input.tokens).view(),
                           .router_logits = std::as_const(input.router_logits).view(),
                           .expert_ids = std::as_const(input.expert_ids).view(),
                           .expert_weights = std::as_const(input.expert_weights).view(),
                           .input_ids = std::as_const(input.input_ids).view(),
                           .out = report.out.view(),
                           .chosen_ids = report.expert_ids.view(),
                           .chosen_weights = report.expert_weights.view(),
                           .workspace = {}};
  if (options.check) report.check = check(report.config, weights, buffers, report.device);
  const MoeLayer layer(report.config, std::move(weights), report.device);
  time_runs(layer.plan(input.count()), buffers, report);
  return report;
}

}  // namespace switchyard::cli
