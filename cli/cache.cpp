#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/cli.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "switchyard/error.h"
#include "switchyard/kernels.h"

namespace switchyard::cli {
namespace {

struct WarmWords {
  std::string arch = "sm_90a";
  std::vector<std::string> presets, lines;
  std::vector<int> tokens;
  int threads = 0;
};

constexpr const char* kFooter = R"(  switchyard cache warm --arch sm_90a --preset qwen3-30b-a3b
  switchyard cache warm --preset all --tokens 1,32
  switchyard cache warm --problem 'moe t8 h2048 i768 e128 k8 bf16 swiglu softmax_renormalize'
  switchyard cache list --json
  switchyard cache clear

SWITCHYARD_CACHE_DIR names the folder. `warm` needs NVRTC but no GPU; copied to another machine,
the folder serves it with SWITCHYARD_JIT=off. Presets are the layers of published models; those
whose weights have no GPU kernels yet (all but bf16 and fp16) are skipped by `--preset all`, and named.)";

/// One batch size for each form that the kernels have.
const std::vector<int> kTokens = {8, 16, 32, 64, 128, 512, 4096};

/// "12 s", "5 min", "3 h", "40 days"
std::string human_age(std::chrono::seconds age) {
  const auto seconds = std::max<std::int64_t>(age.count(), 0);
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 2 * 3600) return fmt::format("{} min", seconds / 60);
  if (seconds < 2 * 86400) return fmt::format("{} h", seconds / 3600);
  return fmt::format("{} days", seconds / 86400);
}

/// An instance as people read it: without our own namespace.
std::string shortened(std::string instance) {
  constexpr std::string_view kOurs = "switchyard::";
  for (std::size_t at = 0; (at = instance.find(kOurs, at)) != std::string::npos;)
    instance.erase(at, kOurs.size());
  return instance;
}

void list(bool json) {
  const std::vector<kernels::Entry> entries = kernels::list();
  const std::string folder = kernels::cache_directory().string();
  Json rows = Json::array();
  std::int64_t bytes = 0;
  for (const kernels::Entry& entry : entries) {
    bytes += entry.bytes;
    rows.push_back({{"instance", entry.instance},
                    {"arch", entry.arch},
                    {"compiler", entry.compiler},
                    {"bytes", entry.bytes},
                    {"age_s", entry.age.count()},
                    {"path", entry.path.string()}});
    if (!json)
      fmt::print("{:8} nvrtc {:6} {:>10} {:>8}  {}\n", entry.arch, entry.compiler,
                 human_bytes(entry.bytes), human_age(entry.age), shortened(entry.instance));
  }
  if (json)
    print({{"folder", folder}, {"kernels", std::move(rows)}});
  else
    fmt::print("{} kernels, {} in {}\n", entries.size(), human_bytes(bytes), folder);
}

void clear(bool json) {
  const std::size_t removed = kernels::clear();
  const std::string folder = kernels::cache_directory().string();
  if (json)
    print({{"folder", folder}, {"removed", removed}});
  else
    fmt::print("{} kernels removed from {}\n", removed, folder);
}

/// What to warm, and the presets of `all` that are left out, with the reason.
struct Selection {
  std::vector<MoeProblem> problems;
  Json skipped = Json::array();
};

Selection select(const WarmWords& words) {
  if (words.presets.empty() && words.lines.empty())
    throw InvalidArgument("[cache warm] expected --preset or --problem, got neither.");
  Selection selection;
  for (const std::string& preset_or_all : words.presets) {
    const bool all = preset_or_all == "all";
    for (const std::string& name : all ? preset_names() : std::vector{preset_or_all})
      for (const int tokens : words.tokens.empty() ? kTokens : words.tokens) {
        MoeProblem problem = preset(name, tokens);
        const auto reason = all ? kernels::declines(problem, words.arch) : std::nullopt;
        const Json skip = {{"preset", name}, {"reason", reason.value_or("")}};
        if (!reason)
          selection.problems.push_back(std::move(problem));
        else if (selection.skipped.empty() || selection.skipped.back() != skip)
          selection.skipped.push_back(skip);
      }
  }
  for (const std::string& line : words.lines) {
    MoeProblem problem = parse_problem(line);
    for (const int tokens : words.tokens.empty() ? std::vector{problem.tokens} : words.tokens) {
      problem.tokens = tokens;
      selection.problems.push_back(problem);
    }
  }
  return selection;
}

void warm(const WarmWords& words, bool json) {
  const Selection selection = select(words);
  ProgressLine line("compiling", ProgressLine::Unit::kernels);
  const kernels::Warmed warmed =
      kernels::warm(selection.problems,
                    {.arch = words.arch, .threads = words.threads, .progress = line.callback()});
  const std::string folder = kernels::cache_directory().string();
  if (json) {
    print({{"folder", folder},
           {"arch", words.arch},
           {"compiled", warmed.compiled},
           {"found", warmed.found},
           {"skipped", selection.skipped}});
    return;
  }
  for (const Json& skip : selection.skipped)
    fmt::print("skipped {}: {}\n", skip["preset"].get<std::string>(),
               skip["reason"].get<std::string>());
  fmt::print("{} kernels for {} in {}: {} compiled, {} found\n", warmed.compiled + warmed.found,
             words.arch, folder, warmed.compiled, warmed.found);
}

}  // namespace

void add_cache(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("cache", "Lists, fills or clears the kernel cache.");
  command->footer(kFooter);
  command->require_subcommand(1);
  const auto add = [&](const char* name, const char* text, auto run) {
    CLI::App* action = command->add_subcommand(name, text);
    auto json = std::make_shared<bool>(false);
    action->add_flag("--json", *json, "one JSON document on stdout");
    action->callback([run, json, &exit_code] {
      run(*json);
      exit_code = kOk;
    });
    return action;
  };
  add("list", "Prints the compiled kernels.", list);
  add("clear", "Removes all of them.", clear);
  auto words = std::make_shared<WarmWords>();
  CLI::App* action = add("warm", "Compiles what layers need, without a GPU.",
                         [words](bool json) { warm(*words, json); });
  action->add_option("--arch", words->arch, "GPU architecture")->capture_default_str();
  action->add_option("--preset", words->presets, "a published model's layer, or all");
  action->add_option("--problem", words->lines, "a problem line");
  action->add_option("--tokens", words->tokens, "batch sizes to plan for (8,16,32,64,128)")
      ->delimiter(',')
      ->check(CLI::NonNegativeNumber);
  action->add_option("--threads", words->threads, "0 = one per core")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

}  // namespace switchyard::cli
