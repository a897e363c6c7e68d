#include "cli/report/rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "switchyard/error.h"

namespace switchyard::cli::report {
namespace {

using Json = nlohmann::json;

constexpr int kRowVersion = 1;
constexpr double kLargestError = 2;  // what `switchyard check` passes

/// One line of a file, and the sentences about it.
struct Line {
  std::string where;  // "rows.jsonl:12"
  Json json;

  [[noreturn]] void refuse(const std::string& sentence) const {
    throw InvalidArgument(fmt::format("[report] {}: {}", where, sentence));
  }

  [[noreturn]] void refuse(const std::string& name, const char* rule) const {
    const bool there = json.contains(name);
    refuse(
        fmt::format("{}: expected {}, got {}. docs/results.md lists what a row needs; measure "
                    "it again or take the line out.",
                    name, rule, there ? json[name].dump() : "nothing"));
  }

  std::string text(const std::string& name) const {
    if (!json.contains(name) || !json[name].is_string()) refuse(name, "a text");
    return json[name];
  }

  std::string text_or_null(const std::string& name) const {
    if (!json.contains(name) || !(json[name].is_string() || json[name].is_null()))
      refuse(name, "a text or null");
    return json[name].is_null() ? "" : json[name].get<std::string>();
  }

  double number(const std::string& name) const {
    if (!json.contains(name) || !json[name].is_number() || !(json[name].get<double>() > 0))
      refuse(name, "a number above 0");
    return json[name];
  }
};

/// Benchmarks name layers of other shapes by the preset that they start from.
bool has_shape_of(const std::string& name, const MoeProblem& problem) {
  const std::vector<std::string> known = preset_names();
  if (std::find(known.begin(), known.end(), name) == known.end())
    return true;  // of another version
  const MoeConfig& a = preset(name, 1).config;
  const MoeConfig& b = problem.config;
  return a.hidden == b.hidden && a.intermediate == b.intermediate && a.experts == b.experts &&
         a.top_k == b.top_k;
}

MoeProblem problem_of(const Line& line) {
  MoeProblem problem;
  const std::string text = line.text("problem");
  try {
    problem = parse_problem(text);
  } catch (const InvalidArgument& error) {
    line.refuse(fmt::format("problem: {}", error.what()));
  }
  if (line.number("m") != problem.tokens) line.refuse("m", "the tokens of `problem`");
  return problem;
}

void check_error(const Line& line) {
  if (!line.json.contains("error_ratio") || line.json["error_ratio"].is_null()) return;
  if (!(line.number("error_ratio") <= kLargestError))
    line.refuse("error_ratio", "at most 2, because a wrong result has no time");
}

/// The machine and its ceilings: a GPU's in TB/s and TFLOP/s, a CPU's in GB/s and GFLOP/s.
void read_machine(const Line& line, Row& row) {
  if (line.json.contains("gpu")) {
    row.machine = line.text("gpu");
    row.read_tbs = line.number("ceiling_read_tbs");
    row.mma_tflops = line.number("ceiling_mma_tflops");
  } else if (line.json.contains("cpu")) {
    const double threads = line.number("threads");
    row.machine =
        fmt::format("{}, {} thread{}", line.text("cpu"), threads, threads == 1 ? "" : "s");
    row.read_tbs = line.number("ceiling_read_gbs") / 1000;
    row.mma_tflops = line.number("ceiling_gflops") / 1000;
  } else {
    line.refuse("gpu", "the name of a GPU, or `cpu` and `threads`");
  }
}

Row to_row(const Line& line) {
  Row row;
  row.problem = problem_of(line);
  row.preset = line.text_or_null("preset");
  if (!has_shape_of(row.preset, row.problem)) row.preset.clear();
  row.format = line.text("format"), row.variant = line.text("variant");
  if (!line.text_or_null("peer").empty()) row.peer = row.variant;
  row.commit = line.text("commit"), row.date = line.text("date");
  row.p10_us = line.number("p10_us"), row.p90_us = line.number("p90_us");
  row.median_us = line.number("median_us");
  if (!(row.p10_us <= row.median_us && row.median_us <= row.p90_us))
    line.refuse("median_us", "p10_us <= median_us <= p90_us");
  row.floor_us = line.number("floor_us");
  row.bytes = line.number("bytes"), row.flops = line.number("flops");
  read_machine(line, row);
  check_error(line);
  return row;
}

void check_version(const Line& line) {
  if (line.json.contains("row_version") && line.json["row_version"] != kRowVersion)
    line.refuse(
        fmt::format("row_version: expected {}, got {}. Another version of Switchyard wrote "
                    "this row: read it with that one, or measure it again.",
                    kRowVersion, line.json["row_version"].dump()));
}

void read_file(const std::filesystem::path& path, Results& results) {
  std::error_code ignored;
  std::ifstream file(path);
  if (!std::filesystem::is_regular_file(path, ignored) || !file)
    throw InvalidArgument(fmt::format(
        "[report] {}: expected a file of result rows, got none that can be read. Check the path; "
        "`./run gpu-bench` makes one.",
        path.string()));
  int number = 0;
  for (std::string text; std::getline(file, text);) {
    Line line{fmt::format("{}:{}", path.string(), ++number), nullptr};
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    line.json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!line.json.is_object())
      line.refuse(
          fmt::format("expected one JSON object a line, got '{}'. Take the line out, or "
                      "measure again if the file was cut short.",
                      text.substr(0, 40)));
    check_version(line);
    if (line.json.contains("bench"))
      ++results.others[line.text("bench")];
    else
      results.rows.push_back(to_row(line));
  }
}

}  // namespace

Results read_results(const std::vector<std::filesystem::path>& files) {
  Results results;
  for (const std::filesystem::path& file : files) read_file(file, results);
  if (results.rows.empty())
    throw InvalidArgument(
        fmt::format("[report] {}: expected rows of layers, got none. `./run gpu-bench` makes them.",
                    files.front().string()));
  return results;
}

}  // namespace switchyard::cli::report
