#include <fmt/format.h>
#include <signal.h>

#include <atomic>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "cli/cli.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "switchyard/error.h"
#include "switchyard/kernels.h"
#include "switchyard/tuner.h"

namespace switchyard::cli {
namespace {

struct TuneWords {
  std::vector<std::string> lines, presets, from;
  std::vector<int> tokens;
  std::string format, out, details;
  tuner::Options options;
  bool here = false, json = false, serve = false;
};

constexpr const char* kFooter = R"(  switchyard tune --preset gpt-oss-120b
  switchyard tune --preset all --m 1,8,32,128 --out picks.jsonl
  switchyard tune 'moe t64 h2048 i768 e128 k8 bf16 swiglu softmax_renormalize'
  switchyard tune --from rank0.jsonl --from rank1.jsonl --out picks.jsonl

Measures the variants that can serve a layer's batches on this GPU and keeps the best one of each, beside
the kernel cache, where plans find it; a batch between two sizes is planned like the one below. Tables
for some machines come with the library: what they know is not measured unless --again. Ctrl-C keeps what
is done, and the same command goes on. --from without layers merges files.)";

std::atomic<bool> interrupted = false;

/// Ctrl-C ends a run; the second one the process.
class Interrupt {
 public:
  Interrupt() {
    struct sigaction action = {};
    action.sa_handler = [](int) { interrupted = true; };
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    sigaction(SIGINT, &action, &before_);
  }
  ~Interrupt() { sigaction(SIGINT, &before_, nullptr); }
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

 private:
  struct sigaction before_ = {};
};

/// Problems, and the presets of `all` that no GPU serves.
std::vector<MoeProblem> problems_of(const TuneWords& words, Json& skipped) {
  std::vector<MoeProblem> problems;
  const auto add = [&](MoeProblem problem, const std::vector<int>& tokens) {
    for (const int batch : tokens) {
      problem.tokens = batch;
      problems.push_back(problem);
    }
  };
  const std::vector<int> usual = tuner::buckets(std::numeric_limits<int>::max());
  for (const std::string& word : words.presets)
    for (const std::string& name : word == "all" ? preset_names() : std::vector{word}) {
      MoeProblem problem = preset(name, 1);
      if (!words.format.empty()) problem.format = weight_format(words.format);
      const auto reason = kernels::declines(problem, "sm_90a");
      if (word == "all" && reason)
        skipped.push_back({{"preset", name}, {"reason", *reason}});
      else
        add(std::move(problem), words.tokens.empty() ? usual : words.tokens);
    }
  for (const std::string& line : words.lines) {
    MoeProblem problem = parse_problem(line);
    add(problem, words.tokens.empty() ? std::vector{problem.tokens} : words.tokens);
  }
  return problems;
}

void say(std::string_view sentence) {
  fmt::print(stderr, "{}\n", sentence);
}

std::vector<std::filesystem::path> paths(const std::vector<std::string>& words) {
  return {words.begin(), words.end()};
}

void merge(const TuneWords& words) {
  if (words.from.empty() || words.out.empty())
    throw InvalidArgument(
        "[tune] expected a problem line or --preset, or else --from and --out to merge files. "
        "`switchyard tune --help` shows examples.");
  const int rows = tuner::merge(paths(words.from), words.out, say);
  if (words.json)
    print({{"file", words.out}, {"rows", rows}});
  else
    fmt::print("{}: {} picks of {} files\n", words.out, rows, words.from.size());
}

int tune(TuneWords& words) {
  if (words.presets.empty() && words.lines.empty()) {
    merge(words);
    return kOk;
  }
  Json skipped = Json::array();
  const std::vector<MoeProblem> problems = problems_of(words, skipped);
  tuner::Options& options = words.options;
  options.out = words.out.empty() ? tuner::file() : std::filesystem::path(words.out);
  options.from = paths(words.from);
  options.details = words.details;
  if (!words.here)
    options.worker = {std::filesystem::read_symlink("/proc/self/exe"), "tune", "--serve",
                      "--device", std::to_string(options.device)};
  ProgressLine line("tuning", ProgressLine::Unit::samples);
  options.report = [&](std::string_view sentence) {
    line.wipe();
    say(sentence);
  };
  options.progress = [&](const tuner::Progress& p) { line.show(p.done, p.total, p.seconds_left); };
  options.stop = [] { return interrupted.load(); };
  tuner::Summary summary;
  {
    const Interrupt interrupt;
    summary = tuner::tune(problems, options);
  }
  line.wipe();
  if (words.json) {
    print({{"file", options.out.string()},
           {"tuned", summary.tuned},
           {"known", summary.known},
           {"failed", summary.failed},
           {"stopped", summary.stopped},
           {"skipped", skipped}});
  } else {
    for (const Json& skip : skipped)
      fmt::print("skipped {}: {}\n", skip["preset"].get<std::string>(),
                 skip["reason"].get<std::string>());
    fmt::print("{} batches tuned, {} known already{}{}; {}\n", summary.tuned, summary.known,
               summary.failed > 0 ? fmt::format(", {} that no variant ran", summary.failed) : "",
               summary.stopped ? "; stopped, the same command goes on" : "", options.out.string());
  }
  return summary.failed > 0 || summary.stopped ? kCheckFailed : kOk;
}

}  // namespace

void add_tune(CLI::App& app, int& exit_code) {
  auto words = std::make_shared<TuneWords>();
  tuner::Options& options = words->options;
  CLI::App* command = app.add_subcommand("tune", "Measures which variants serve layers best.");
  command->footer(kFooter);
  command->add_option("PROBLEM", words->lines, "problem lines");
  command->add_option("--preset", words->presets, "published models' layers, or all")
      ->delimiter(',');
  command->add_option("--format", words->format,
                      "weights of --preset: bf16, nvfp4, mxfp4 (as published)");
  command
      ->add_option("--m,-m", words->tokens,
                   "batch sizes (of a preset: 1 to 8192; of a problem line: its own)")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  command->add_option("-o,--out", words->out,
                      "append picks to this file (beside the kernel cache)");
  command->add_option("--from", words->from, "files of picks that are known already");
  command->add_flag("--again", options.again,
                    "measure what shipped tables and your file know, too");
  command->add_flag("--exhaustive", options.exhaustive, "every variant to the end: slow");
  command->add_option("--details", words->details, "append every variant's times to this file");
  command->add_option("--rounds", options.rounds, "samples of a variant under each load, at most")
      ->check(CLI::Range(6, 1000))
      ->capture_default_str();
  command->add_option("--threads", options.threads, "that compile kernels ahead; 0 = all but two")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--device", options.device, "which GPU")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_flag("--here", words->here, "run variants in this process, not in one of their own");
  command->add_flag("--serve", words->serve, "")->group("");
  command->add_flag("--json", words->json, "one JSON document on stdout");
  command->callback([words, &exit_code] {
    if (words->serve)
      tuner::serve(words->options.device);
    else
      exit_code = tune(*words);
  });
}

}  // namespace switchyard::cli
