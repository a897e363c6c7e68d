#include "cli/bench/bench.h"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "cli/cli.h"
#include "cli/print.h"
#include "switchyard/error.h"

namespace switchyard::cli {
namespace {

struct BenchWords {
  std::vector<std::string> lines, presets;
  std::vector<int> tokens;
  std::string cases, format, load = "random";
  bool layer = false;
  bench::Options options;
};

constexpr const char* kFooter = R"(  switchyard bench --preset gpt-oss-120b --m 1,8,32,128,512,4096
  switchyard bench --preset all --m 8 --routing zipf
  switchyard bench 'moe t8 h2048 i768 e128 k8 bf16 swiglu softmax_renormalize' --ops
  switchyard bench --preset mixtral-8x7b --format bf16 --m 8,512 --peers peers.jsonl

Measures what the GPU reads and multiplies at best, then layers from router logits: graph replay, cold
L2, another routing for each of eight layers. Every output is compared with the definition (error: at
most 2 passes) and computed twice. --ops: what each launch adds to those before it. --out appends rows
for `switchyard report` (docs/results.md).)";

std::vector<bench::LayerCase> cases_of(const BenchWords& words) {
  if (words.lines.empty() && words.presets.empty() && words.cases.empty())
    throw InvalidArgument(
        "[bench] expected a problem line, --preset or --cases, got none. `switchyard bench --help` "
        "shows examples.");
  if (!words.lines.empty() && (words.load != "random" || !words.format.empty()))
    throw InvalidArgument(fmt::format(
        "[bench] {}: a problem line says it itself. Write it there.",
        words.format.empty() ? "--routing (routing_load=" + words.load + ")" : "--format"));
  const std::vector<int> usual = {1, 8, 32, 128, 512, 4096};
  std::vector<bench::LayerCase> cases = bench::line_cases(words.lines, words.tokens);
  for (auto& one : bench::preset_cases(words.presets, words.format,
                                       words.tokens.empty() ? usual : words.tokens, words.load))
    cases.push_back(std::move(one));
  if (!words.cases.empty())
    for (auto& one : bench::file_cases(words.cases)) cases.push_back(std::move(one));
  return cases;
}

}  // namespace

void add_bench(CLI::App& app, int& exit_code) {
  auto words = std::make_shared<BenchWords>();
  bench::Options& options = words->options;
  CLI::App* command = app.add_subcommand("bench", "Measures layers on a GPU.");
  command->footer(kFooter);
  command->add_option("PROBLEM", words->lines, "problem lines");
  command->add_option("--preset,--presets", words->presets, "published models' layers, or all")
      ->delimiter(',');
  command->add_option("--format", words->format,
                      "weights of --preset: bf16, nvfp4, mxfp4 (as published)");
  command->add_option("--m,-m,--tokens", words->tokens, "batch sizes (1,8,32,128,512,4096)")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  command->add_option("--routing", words->load, "how tokens choose experts, of --preset")
      ->check(CLI::IsMember({"random", "balanced", "zipf", "hot"}))
      ->capture_default_str();
  command->add_option("--cases", words->cases, "a file of problem lines (bench/cases)");
  CLI::Option* ops = command->add_flag("--ops", options.ops, "what each launch takes");
  command->add_flag("--layer", words->layer, "what a layer takes (the default)")->excludes(ops);
  command->add_option("--peers", options.peers, "rows of bench/peers.py, to print beside ours");
  command->add_option("--out", options.out, "append rows to a file in this folder")->take_last();
  command->add_option("--topic", options.topic, "last word of that file's name")
      ->capture_default_str();
  command->add_option("--commit", options.commit, "for the rows")->take_last();
  command->add_option("--samples", options.samples, "graph launches of 8 layers each")
      ->take_last()
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  CLI::Option* model =
      command->add_flag("--model", options.model,
                        "the cost model's variant, whatever was measured (switchyard tune)");
  command->add_flag("--all-variants", options.all_variants, "every variant, not the planner's")
      ->excludes(model);
  command->add_flag("!--no-check", options.check, "do not compare with the definition");
  command->add_flag("--json", options.json, "one JSON document on stdout");
  command->callback([words, &exit_code] {
    const Json rows = bench::measure(cases_of(*words), words->options);
    if (words->options.json) print({{"rows", rows}});
    bool failed = false;
    for (const Json& row : rows)
      failed = failed || row.value("error_ratio", 0.0) > 2 || !row.value("repeatable", true);
    exit_code = failed ? kCheckFailed : kOk;
  });
}

}  // namespace switchyard::cli
