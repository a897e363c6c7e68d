#include "cli/report/sections.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace switchyard::cli::report {
namespace {

using Cell = Table::Cell;

std::string tip(const Row& row) {
  return fmt::format("M {}: {} µs ({} to {}), floor {} µs, {}", row.problem.tokens,
                     three_digits(row.median_us), three_digits(row.p10_us),
                     three_digits(row.p90_us), three_digits(row.floor_us), row.variant);
}

Line line_of(const std::string& name, const std::string& style, const Sweep& sweep) {
  Line line{name, style, {}};
  for (const auto& [x, row] : sweep)
    line.points.push_back({static_cast<double>(x), row.median_us, tip(row)});
  return line;
}

Line floor_of(const Sweep& sweep) {
  Line line{"floor", "floor", {}};
  for (const auto& [x, row] : sweep)
    line.points.push_back({static_cast<double>(x), row.floor_us, ""});
  return line;
}

std::string range(const Row& row) {
  return three_digits(row.p10_us) + "–" + three_digits(row.p90_us);
}

Table latency_table(const Layer& layer) {
  Table table{"", {"M", "ours, µs", "p10–p90", "floor, µs", "share of floor"}, {}};
  for (const auto& [peer, sweep] : layer.peers) {
    table.head.push_back(peer + ", µs");
    table.head.push_back("ours is faster by");
  }
  for (const auto& [tokens, row] : layer.ours) {
    std::vector<Cell> cells = {{std::to_string(tokens), ""},
                               {three_digits(row.median_us), ""},
                               {range(row), ""},
                               {three_digits(row.floor_us), ""},
                               {fmt::format("{:.2f}", row.efficiency()), ""}};
    for (const auto& [peer, sweep] : layer.peers) {
      const auto match = sweep.find(tokens);
      const bool there = match != sweep.end();
      cells.push_back({there ? three_digits(match->second.median_us) : "–", ""});
      cells.push_back(
          {there ? fmt::format("{:.2f}×", match->second.median_us / row.median_us) : "–", ""});
    }
    table.rows.push_back(std::move(cells));
  }
  return table;
}

Section latency(const std::vector<Layer>& layers) {
  Section section{"latency",
                  "Latency against batch size",
                  "The whole layer, from router logits to output; M is the number of tokens. The "
                  "floor is what its bytes or its operations need at the rates that the same run "
                  "measured.",
                  {}};
  for (const Layer& layer : layers) {
    Chart chart{.title = layer.name,
                .subtitle = layer.machine,
                .x_name = "M, tokens",
                .y_name = "µs, median",
                .lines = {line_of("Switchyard", color(0), layer.ours)}};
    for (const auto& [peer, sweep] : layer.peers)
      chart.lines.push_back(line_of(peer, color(chart.lines.size()), sweep));
    chart.lines.push_back(floor_of(layer.ours));
    section.figures.push_back({{std::move(chart)}, latency_table(layer)});
  }
  return section;
}

/// One table a machine, layers down and batch sizes across; `cell` fills what was measured.
template <class Fill>
std::vector<Figure> maps_of(const std::vector<Layer>& layers, const Fill& cell) {
  std::map<std::string, std::set<int>> columns;
  for (const Layer& layer : layers)
    for (const auto& [tokens, row] : layer.ours) columns[layer.machine].insert(tokens);
  std::vector<Figure> figures;
  for (const std::string& machine : machines_of(layers)) {
    const std::set<int>& batches = columns[machine];
    Table table{machine, {"M"}, {}};
    for (const int tokens : batches) table.head.push_back(std::to_string(tokens));
    for (const Layer& layer : layers) {
      if (layer.machine != machine) continue;
      std::vector<Cell> cells = {{layer.name, ""}};
      for (const int tokens : batches) {
        const auto row = layer.ours.find(tokens);
        cells.push_back(row == layer.ours.end() ? Cell{"", "none"} : cell(row->second));
      }
      table.rows.push_back(std::move(cells));
    }
    figures.push_back({{}, std::move(table)});
  }
  return figures;
}

Section efficiency(const std::vector<Layer>& layers) {
  const auto cell = [](const Row& row) {
    const int tenth = std::clamp(static_cast<int>(row.efficiency() * 10), 0, 9);
    return Cell{fmt::format("{:.2f}", row.efficiency()), fmt::format("e{}", tenth)};
  };
  return {"efficiency", "Share of the floor",
          "Floor over median: 1, in strong colour, is as fast as the machine reads or multiplies.",
          maps_of(layers, cell)};
}

/// 0 -> "A", 25 -> "Z", 26 -> "AA"
std::string letters(std::size_t i) {
  std::string name(1, static_cast<char>('A' + i % 26));
  return i < 26 ? name : letters(i / 26 - 1) + name;
}

Section tactics(const std::vector<Layer>& layers) {
  std::vector<std::string> variants;
  const auto cell = [&](const Row& row) {
    const auto found = std::find(variants.begin(), variants.end(), row.variant);
    const auto i = static_cast<std::size_t>(found - variants.begin());
    if (found == variants.end()) variants.push_back(row.variant);
    return Cell{letters(i), "v " + color(i)};
  };
  Section section{"tactics", "Tactics", "Which variant of the kernels ran. Letters are below.",
                  maps_of(layers, cell)};
  Table legend{"Variants", {"", "variant"}, {}};
  for (std::size_t i = 0; i < variants.size(); ++i)
    legend.rows.push_back({{letters(i), "v " + color(i)}, {variants[i], "words"}});
  if (!variants.empty()) section.figures.push_back({{}, std::move(legend)});
  return section;
}

Line roof(const Row& ceilings, double low, double high) {
  const double read = ceilings.read_tbs, most = ceilings.mma_tflops;
  Line line{three_digits(most) + " TFLOP/s", "floor", {{low, low * read, ""}}};
  if (low < most / read && most / read < high) line.points.push_back({most / read, most, ""});
  line.points.push_back({high, std::min(high * read, most), ""});
  return line;
}

/// One chart a machine: operations a byte against operations a second.
Section roofline(const std::vector<Layer>& layers) {
  Section section{"roofline",
                  "Roofline",
                  "A point is a layer at one batch size. Left of the bend of the dashed roof "
                  "memory is the limit, right of it the arithmetic.",
                  {}};
  for (const std::string& machine : machines_of(layers)) {
    std::vector<const Layer*> all;
    std::set<std::string> formats;
    for (const Layer& layer : layers)
      if (layer.machine == machine) {
        all.push_back(&layer);
        formats.insert(layer.ours.begin()->second.format);
      }
    const Row& ceilings = all.back()->ours.rbegin()->second;
    Chart chart{
        .title = machine,
        .subtitle = fmt::format("reads {} TB/s, multiplies {} TFLOP/s",
                                three_digits(ceilings.read_tbs), three_digits(ceilings.mma_tflops)),
        .x_name = "FLOP a byte",
        .y_name = "TFLOP/s",
        .x_base = 10};
    Table table{"", {"layer", "M", "FLOP a byte", "TFLOP/s", "TB/s"}, {}};
    double low = ceilings.flops / ceilings.bytes, high = low;
    for (const Layer* const layer : all) {
      Line line{
          formats.size() == 1 ? layer->short_name : layer->name, color(chart.lines.size()), {}};
      for (const auto& [tokens, row] : layer->ours) {
        const double intensity = row.flops / row.bytes, tflops = row.flops / row.median_us * 1e-6;
        low = std::min(low, intensity), high = std::max(high, intensity);
        line.points.push_back({intensity, tflops, layer->name + ", " + tip(row)});
        table.rows.push_back({{layer->name, ""},
                              {std::to_string(tokens), ""},
                              {three_digits(intensity), ""},
                              {three_digits(tflops), ""},
                              {three_digits(row.bytes / row.median_us * 1e-6), ""}});
      }
      chart.lines.push_back(std::move(line));
    }
    chart.lines.push_back(roof(ceilings, low, high * 1.5));
    section.figures.push_back({{std::move(chart)}, std::move(table)});
  }
  return section;
}

Section scaling(const std::vector<Row>& rows, Axis axis) {
  const bool experts = axis == Axis::experts;
  Section section{experts ? "experts" : "top-k",
                  experts ? "Scaling in the number of experts" : "Scaling in top-k",
                  experts ? "The same layer with other numbers of experts, E."
                          : "The same layer with another number of experts a token, k.",
                  {}};
  const std::string letter = experts ? "E" : "k";
  for (const Scaling& scaling : scaling_of(rows, axis)) {
    Chart chart{.title = scaling.name,
                .subtitle = scaling.machine,
                .x_name = experts ? "E, experts" : "k, experts a token",
                .y_name = "µs, median"};
    Table table{"", {"M", letter, "ours, µs", "p10–p90", "share of floor"}, {}};
    for (const auto& [tokens, sweep] : scaling.by_tokens) {
      chart.lines.push_back(
          line_of(fmt::format("M = {}", tokens), color(chart.lines.size()), sweep));
      for (const auto& [value, row] : sweep)
        table.rows.push_back({{std::to_string(tokens), ""},
                              {std::to_string(value), ""},
                              {three_digits(row.median_us), ""},
                              {range(row), ""},
                              {fmt::format("{:.2f}", row.efficiency()), ""}});
    }
    section.figures.push_back({{std::move(chart)}, std::move(table)});
  }
  return section;
}

}  // namespace

std::vector<Section> sections_of(const std::vector<Row>& rows, const std::vector<Row>& against) {
  const std::vector<Layer> all = layers_of(rows);
  std::vector<Layer> shown = all;
  std::erase_if(shown, [](const Layer& layer) { return !layer.shown(); });
  std::vector<Section> sections;
  if (!against.empty()) sections.push_back(changes_section(all, layers_of(against)));
  for (Section section : {latency(shown), efficiency(shown), roofline(shown), tactics(shown),
                          scaling(rows, Axis::experts), scaling(rows, Axis::top_k)})
    if (!section.figures.empty()) sections.push_back(std::move(section));
  return sections;
}

}  // namespace switchyard::cli::report
