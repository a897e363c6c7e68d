#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "cli/report/sections.h"

namespace switchyard::cli::report {
namespace {

using Verdict = Change::Verdict;

std::string percent(const Change& change) {
  const double tenths = std::round((change.ratio() - 1) * 1000);
  return fmt::format("{:+.1f} %", tenths / 10 + 0.0);  // never "-0.0"
}

std::vector<Chart> charts_of(const std::vector<Change>& changes) {
  // machine -> layer -> tokens
  std::map<std::string, std::map<std::string, std::map<int, const Change*>>> machines;
  std::set<std::string> formats;
  for (const Change& change : changes) formats.insert(change.now.format);
  for (const Change& change : changes) {
    const std::string& name = formats.size() == 1 ? change.short_name : change.name;
    machines[change.machine][name][change.now.problem.tokens] = &change;
  }
  std::vector<Chart> charts;
  for (const auto& [machine, layers] : machines) {
    Chart chart{.title = machine,
                .subtitle = "time of these results over the time of the others",
                .x_name = "M, tokens",
                .y_name = "ratio; above 1 is slower",
                .y_scale = Chart::Scale::linear};
    for (const auto& [name, sweep] : layers) {
      Line line{name, color(chart.lines.size()), {}};
      for (const auto& [tokens, change] : sweep)
        line.points.push_back({static_cast<double>(tokens), change->ratio(),
                               fmt::format("{}, M {}: {}", name, tokens, percent(*change))});
      chart.lines.push_back(std::move(line));
    }
    charts.push_back(std::move(chart));
  }
  return charts;
}

Table table_of(const std::vector<Change>& changes) {
  Table table{"Slowest first",
              {"layer", "M", "change", "", "before, µs", "now, µs", "another variant", "commits",
               "machine"},
              {}};
  for (const Change& change : changes) {
    const Verdict verdict = change.verdict();
    const char* const word = verdict == Verdict::slower   ? "slower"
                             : verdict == Verdict::faster ? "faster"
                                                          : "same";
    const std::string was = change.before.variant, is = change.now.variant;
    table.rows.push_back({{change.name, ""},
                          {std::to_string(change.now.problem.tokens), ""},
                          {percent(change), word},
                          {word, word},
                          {three_digits(change.before.median_us), ""},
                          {three_digits(change.now.median_us), ""},
                          {was == is ? "" : fmt::format("{} → {}", was, is), "words"},
                          {fmt::format("{} → {}", change.before.commit, change.now.commit), ""},
                          {change.machine, ""}});
  }
  return table;
}

/// "faster than torch._grouped_mm in 23 of 24 cells, 1.56× in the middle (0.95 to 3.44)"
std::string against_peer(const std::string& peer, const std::vector<double>& factors) {
  const auto wins = std::count_if(factors.begin(), factors.end(), [](double f) { return f > 1; });
  return fmt::format("faster than {} in {} of {} cells, {:.2f}× in the middle ({:.2f} to {:.2f})",
                     peer, wins, factors.size(), median(factors),
                     *std::min_element(factors.begin(), factors.end()),
                     *std::max_element(factors.begin(), factors.end()));
}

}  // namespace

Section changes_section(const std::vector<Layer>& now, const std::vector<Layer>& before) {
  const std::vector<Change> changes = changes_of(now, before);
  const auto count = [&](Verdict verdict) {
    return std::count_if(changes.begin(), changes.end(),
                         [&](const Change& change) { return change.verdict() == verdict; });
  };
  Section section{"changes",
                  "Against other results",
                  fmt::format("Of {} cells that both have, {} got slower and {} faster: by more "
                              "than 2 %, with ranges p10 to p90 that do not meet.",
                              changes.size(), count(Verdict::slower), count(Verdict::faster)),
                  {}};
  for (Chart& chart : charts_of(changes)) section.figures.push_back({{std::move(chart)}, {}});
  if (!changes.empty()) section.figures.push_back({{}, table_of(changes)});
  return section;
}

std::vector<std::string> headlines_of(const std::vector<Layer>& layers) {
  struct Machine {
    std::vector<double> efficiencies;
    std::map<std::string, std::vector<double>> factors;  // by peer: how much longer it takes
  };
  std::map<std::string, Machine> machines;
  for (const Layer& layer : layers) {
    Machine& machine = machines[layer.machine];
    for (const auto& [tokens, row] : layer.ours) {
      machine.efficiencies.push_back(row.efficiency());
      for (const auto& [peer, sweep] : layer.peers)
        if (const auto match = sweep.find(tokens); match != sweep.end())
          machine.factors[peer].push_back(match->second.median_us / row.median_us);
    }
  }
  std::vector<std::string> lines;
  for (const std::string& name : machines_of(layers)) {
    const Machine& machine = machines[name];
    if (machine.efficiencies.empty()) continue;
    std::string line = fmt::format("{}: {:.2f} of the floor in the middle of {} cell{}", name,
                                   median(machine.efficiencies), machine.efficiencies.size(),
                                   machine.efficiencies.size() == 1 ? "" : "s");
    for (const auto& [peer, factors] : machine.factors) line += "; " + against_peer(peer, factors);
    lines.push_back(line + ".");
  }
  return lines;
}

}  // namespace switchyard::cli::report
