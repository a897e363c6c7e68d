#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "cli/cli.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"
#include "switchyard/problem.h"

namespace switchyard::cli {
namespace {

struct ExplainOptions {
  std::string target;
  std::optional<int> layer;
  int tokens = 1;
  int threads = 0;
  bool json = false;
};

constexpr const char* kFooter = R"(  switchyard explain ~/models/gpt-oss-20b --layer 3 --tokens 16
  switchyard explain 'moe t16 h2880 i2880 e32 k4 mxfp4 swiglu_oai topk_softmax bias'

Prints the steps that a run takes, their variants, and the bytes and FLOPs of each.)";

/// The layer that the words describe, planned.
MoePlan make_plan(const ExplainOptions& options) {
  const Device device = Device::cpu(options.threads);
  if (options.target.starts_with("moe ")) {
    const MoeProblem problem = parse_problem(options.target);
    MoeCase layer = make_case(problem, /*seed=*/7);
    return MoeLayer(std::move(layer.config), std::move(layer.weights), device).plan(problem.tokens);
  }
  const Checkpoint checkpoint = Checkpoint::open(options.target);
  if (!options.layer)
    throw InvalidArgument("[explain] --layer: a checkpoint has several layers. Say which.");
  ProgressLine line("loading");
  return MoeLayer(
             checkpoint.config(*options.layer),
             checkpoint.load(*options.layer, {.tp = {}, .ep = {}, .progress = line.callback()}),
             device)
      .plan(options.tokens);
}

void explain(const ExplainOptions& options) {
  const MoePlan plan = make_plan(options);
  if (options.json)
    print({{"max_tokens", plan.max_tokens()},
           {"workspace_bytes", plan.workspace_bytes()},
           {"plan", plan.explain()}});
  else
    fmt::print("{}", plan.explain());
}

}  // namespace

void add_explain(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<ExplainOptions>();
  CLI::App* command = app.add_subcommand("explain", "Prints how a layer would be run.");
  command->footer(kFooter);
  command->add_option("TARGET", options->target, "checkpoint directory, or a problem line")
      ->required();
  command->add_option("--layer", options->layer, "which layer of the checkpoint")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--tokens", options->tokens, "batch to plan a checkpoint's layer for")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--threads", options->threads, "0 = one per core")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_flag("--json", options->json, "one JSON document on stdout");
  command->callback([options, &exit_code] {
    explain(*options);
    exit_code = kOk;
  });
}

}  // namespace switchyard::cli
