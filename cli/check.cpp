#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "cli/cli.h"
#include "cli/print.h"
#include "cli/usage.h"
#include "switchyard/error.h"
#include "switchyard/problem.h"

namespace switchyard::cli {
namespace {

struct CheckOptions {
  std::vector<std::string> lines;
  std::uint64_t seed = 7;
  std::string device = "cpu";
  int threads = 0;
  bool json = false;
};

constexpr const char* kFooter =
    R"(A problem line names a case: tokens, hidden, intermediate, experts and top-k, then the weight
format, the activation and the routing, then options as key=value. Weights and tokens are random.

  moe t128 h7168 i256 e256 k8 nvfp4 swiglu deepseek_v3 groups=8 topk_groups=4
  moe t8 h256 i128 e16 k4 mxfp4 swiglu_oai topk_softmax bias act=fp8_token

The error is given in units of what an honest run differs from the f64 definition by; 2 passes.)";

int check_all(const CheckOptions& options) {
  if (options.lines.size() > 1 && options.lines.front() == "moe")
    throw InvalidArgument(
        fmt::format("[check] PROBLEM: a problem line is one argument. Quote it: '{}'.",
                    fmt::join(options.lines, " ")));
  // A typing mistake in the last line should not cost the time of those before it.
  std::vector<MoeProblem> problems;
  for (const std::string& line : options.lines) problems.push_back(parse_problem(line));
  Device device = parse_device(options.device);
  device.threads = options.threads;
  Json cases = Json::array();
  bool passed = true;
  for (const MoeProblem& problem : problems) {
    const CheckReport report = check(problem, options.seed, device);
    passed = passed && report.passed;
    cases.push_back(to_json(report));
    if (!options.json) {
      fmt::print("{}\n  {}\n", report.problem, describe(report));
      std::fflush(stdout);
    }
  }
  if (options.json) print({{"passed", passed}, {"cases", std::move(cases)}});
  return passed ? kOk : kCheckFailed;
}

}  // namespace

void add_check(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<CheckOptions>();
  CLI::App* command =
      app.add_subcommand("check", "Compares random cases with the definition of the layer in f64.");
  command->footer(kFooter);
  command->add_option("PROBLEM", options->lines, "problem lines, each one argument")->required();
  command->add_option("--seed", options->seed, "of the random weights and tokens")
      ->check(long_count())
      ->capture_default_str();
  command->add_option("--device", options->device, "cpu, cuda or cuda:N")->capture_default_str();
  command->add_option("--threads", options->threads, "0 = one per core")
      ->check(count())
      ->capture_default_str();
  command->add_flag("--json", options->json, "one JSON document on stdout");
  command->callback([options, &exit_code] { exit_code = check_all(*options); });
}

}  // namespace switchyard::cli
