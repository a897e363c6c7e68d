#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "cli/cli.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "cli/usage.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"
#include "switchyard/kernels.h"
#include "switchyard/problem.h"

namespace switchyard::cli {
namespace {

struct ExplainOptions {
  std::string target;
  std::optional<int> layer, tokens;
  std::string device = "cpu";
  int threads = 0;
  bool json = false;
};

constexpr const char* kFooter = R"(  switchyard explain ~/models/gpt-oss-20b --layer 3 --tokens 16
  switchyard explain 'moe t16 h2880 i2880 e32 k4 mxfp4 swiglu_oai topk_softmax bias'
  switchyard explain 'moe t8 h2048 i768 e128 k8 bf16 swiglu softmax_renormalize' --device cuda

Prints the steps that a run takes, their variants, and the bytes and FLOPs of each; for a GPU the time
that each should take, too. Where there is no GPU, --device cuda plans for an H200.)";

struct Plan {
  int max_tokens = 0;
  std::size_t workspace_bytes = 0;
  std::string text;
};

Plan planned(const MoePlan& plan) {
  return {plan.max_tokens(), plan.workspace_bytes(), plan.explain()};
}

/// For a GPU, which need not be here: a layer's numbers are enough, its weights stay where they
/// are.
Plan planned(const MoeProblem& problem, const Device& device) {
  kernels::Explained explained = kernels::explain(problem, device.ordinal);
  return {problem.tokens, explained.workspace_bytes, std::move(explained.text)};
}

/// The layer that the words describe, planned.
Plan make_plan(const ExplainOptions& options) {
  Device device = parse_device(options.device);
  device.threads = options.threads;
  const bool gpu = device.kind == DeviceKind::cuda;
  if (options.target.starts_with("moe ")) {
    if (options.layer || options.tokens)
      throw InvalidArgument(
          fmt::format("[explain] --{}: a problem line says it itself. Leave it out.",
                      options.layer ? "layer" : "tokens"));
    const MoeProblem problem = parse_problem(options.target);
    if (gpu) return planned(problem, device);
    MoeCase layer = make_case(problem, /*seed=*/7);
    return planned(
        MoeLayer(std::move(layer.config), std::move(layer.weights), device).plan(problem.tokens));
  }
  if (!std::filesystem::exists(options.target))
    throw InvalidArgument(
        fmt::format("[explain] TARGET: expected a checkpoint directory, or a problem line that "
                    "begins with 'moe ', got '{}'. Check the path.",
                    options.target));
  const Checkpoint checkpoint = Checkpoint::open(options.target);
  if (!options.layer && checkpoint.layers().size() > 1)
    throw InvalidArgument(
        fmt::format("[explain] --layer: expected one of the {} MoE layers, got none. `switchyard "
                    "inspect {}` lists them.",
                    checkpoint.layers().size(), options.target));
  const int layer = options.layer.value_or(checkpoint.layers().front().layer);
  const int tokens = options.tokens.value_or(1);
  MoeConfig config = checkpoint.config(layer);
  if (gpu) {
    MoeProblem problem;
    problem.tokens = tokens;
    problem.config = std::move(config);
    problem.format = checkpoint.layer(layer).gate_up;
    return planned(problem, device);
  }
  ProgressLine line("loading");
  MoeWeights weights = checkpoint.load(layer, {.tp = {}, .ep = {}, .progress = line.callback()});
  return planned(MoeLayer(std::move(config), std::move(weights), device).plan(tokens));
}

void explain(const ExplainOptions& options) {
  const Plan plan = make_plan(options);
  if (options.json)
    print({{"max_tokens", plan.max_tokens},
           {"workspace_bytes", plan.workspace_bytes},
           {"plan", plan.text}});
  else
    fmt::print("{}", plan.text);
}

}  // namespace

void add_explain(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<ExplainOptions>();
  CLI::App* command = app.add_subcommand("explain", "Prints how a layer would be run.");
  command->footer(kFooter);
  command->add_option("TARGET", options->target, "checkpoint directory, or a problem line")
      ->required();
  command->add_option("--layer", options->layer, "which layer of the checkpoint")->check(count());
  command->add_option("--tokens", options->tokens, "batch to plan a checkpoint's layer for (1)")
      ->check(count());
  command->add_option("--device", options->device, "cpu, cuda or cuda:N")->capture_default_str();
  command->add_option("--threads", options->threads, "0 = one per core")
      ->check(count())
      ->capture_default_str();
  command->add_flag("--json", options->json, "one JSON document on stdout");
  command->callback([options, &exit_code] {
    explain(*options);
    exit_code = kOk;
  });
}

}  // namespace switchyard::cli
