#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "cli/cli.h"
#include "cli/print.h"
#include "cli/report/page.h"
#include "switchyard/error.h"

namespace switchyard::cli {
namespace {

struct ReportOptions {
  std::vector<std::string> files, against;
  std::string output, chart;
  bool json = false;
};

constexpr const char* kFooter = R"(  switchyard report bench/results/*.jsonl -o report.html
  switchyard report new.jsonl --against old.jsonl -o changes.html
  switchyard report bench/results/*.jsonl --chart latency -o latency.svg

Rows are JSON, one a line, as `./run gpu-bench` appends them to bench/results; docs/results.md says
what they hold. The page needs no network and no script.)";

std::vector<std::filesystem::path> paths(const std::vector<std::string>& words) {
  return {words.begin(), words.end()};
}

std::string chart_of(const std::vector<report::Section>& sections, const std::string& id) {
  std::vector<std::string> ids;
  for (const report::Section& section : sections)
    for (const report::Figure& figure : section.figures)
      if (!figure.chart.empty() && (ids.empty() || ids.back() != section.id))
        ids.push_back(section.id);
  if (std::find(ids.begin(), ids.end(), id) == ids.end())
    throw InvalidArgument(
        fmt::format("[report] --chart: expected one of {}, got '{}'. Other charts need other rows.",
                    fmt::join(ids, " "), id));
  return report::svg_file(*std::find_if(sections.begin(), sections.end(),
                                        [&](const auto& section) { return section.id == id; }));
}

void make(const ReportOptions& options) {
  const report::Source source{options.files, options.against,
                              report::read_results(paths(options.files))};
  const report::Results against =
      options.against.empty() ? report::Results{} : report::read_results(paths(options.against));
  const std::vector<report::Section> sections =
      report::sections_of(source.results.rows, against.rows);
  publish_text(options.output, options.chart.empty() ? report::page(source, sections)
                                                     : chart_of(sections, options.chart));
  const std::size_t rows = source.results.rows.size();
  if (options.json)
    print({{"output", options.output}, {"rows", rows}, {"left_out", source.results.others}});
  else
    fmt::print("{}: {} rows of {} files\n", options.output, rows, options.files.size());
}

}  // namespace

void add_report(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App* command =
      app.add_subcommand("report", "Shows benchmark results as one page, or one chart of it.");
  command->footer(kFooter);
  command->add_option("RESULTS", options->files, "files of result rows")->required();
  command->add_option("--against", options->against, "other results, to show what got slower");
  command->add_option("--chart", options->chart,
                      "only this chart, as SVG: latency, roofline, experts, top-k, changes");
  command->add_option("-o,--output", options->output, "file to write")->required();
  command->add_flag("--json", options->json, "one JSON document on stdout");
  command->callback([options, &exit_code] {
    make(*options);
    exit_code = kOk;
  });
}

}  // namespace switchyard::cli
