#include "cli/report/layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace switchyard::cli::report {
namespace {

constexpr std::size_t kFewestOfAnAxis = 3;
constexpr double kSmallestChange = 0.02;

std::string key_of(const Row& row) {
  MoeProblem layer = row.problem;
  layer.tokens = 1;
  return row.machine + "\n" + to_string(layer);
}

/// ", zipf"; "" for random, which is usual
std::string load_of(const Row& row) {
  return row.problem.load == "random" ? "" : ", " + row.problem.load;
}

std::string shape_of(const Row& row) {
  const MoeConfig& c = row.problem.config;
  return row.preset.empty()
             ? fmt::format("h{} i{} e{} k{}", c.hidden, c.intermediate, c.experts, c.top_k)
             : row.preset;
}

int& number_of(MoeProblem& problem, Axis axis) {
  return axis == Axis::experts ? problem.config.experts : problem.config.top_k;
}

std::string rest_of(const Row& row, Axis axis) {
  const MoeConfig& c = row.problem.config;
  const std::string other =
      axis == Axis::experts ? fmt::format("k{}", c.top_k) : fmt::format("e{}", c.experts);
  return fmt::format("h{} i{} {}", c.hidden, c.intermediate, other) + ", " + row.format +
         load_of(row);
}

/// The element of `all` with this key, made if there is none; keeps the order of first appearance.
template <class Value>
Value& at(std::vector<Value>& all, std::map<std::string, std::size_t>& index,
          const std::string& key) {
  const auto [place, is_new] = index.try_emplace(key, all.size());
  if (is_new) all.emplace_back();
  return all[place->second];
}

}  // namespace

std::vector<Layer> layers_of(const std::vector<Row>& rows) {
  std::vector<Layer> layers;
  std::map<std::string, std::size_t> index;
  for (const Row& row : rows) {
    Layer& layer = at(layers, index, key_of(row));
    layer.machine = row.machine;
    // A sweep without a preset's name may be of the same layer.
    if (layer.name.empty() || !row.preset.empty()) {
      layer.short_name = shape_of(row) + load_of(row);
      layer.name = shape_of(row) + ", " + row.format + load_of(row);
    }
    if (!row.preset.empty()) layer.preset = row.preset;
    (row.peer.empty() ? layer.ours : layer.peers[row.peer])[row.problem.tokens] = row;
  }
  std::map<std::string, int> sizes;
  for (const Layer& layer : layers) ++sizes[layer.machine];
  std::stable_sort(layers.begin(), layers.end(), [&](const Layer& a, const Layer& b) {
    return sizes[a.machine] != sizes[b.machine] ? sizes[a.machine] > sizes[b.machine]
                                                : a.machine < b.machine;
  });
  return layers;
}

std::vector<std::string> machines_of(const std::vector<Layer>& layers) {
  std::vector<std::string> machines;
  for (const Layer& layer : layers)
    if (machines.empty() || machines.back() != layer.machine) machines.push_back(layer.machine);
  return machines;
}

std::vector<Scaling> scaling_of(const std::vector<Row>& rows, Axis axis) {
  std::vector<Scaling> all;
  std::map<std::string, std::size_t> index;
  for (const Row& row : rows) {
    if (!row.peer.empty()) continue;
    Row without = row;
    const int value = std::exchange(number_of(without.problem, axis), 1);
    Scaling& scaling = at(all, index, key_of(without));
    scaling.machine = row.machine, scaling.name = rest_of(row, axis);
    scaling.by_tokens[row.problem.tokens][value] = row;
  }
  for (Scaling& scaling : all)
    std::erase_if(scaling.by_tokens,
                  [](const auto& line) { return line.second.size() < kFewestOfAnAxis; });
  std::erase_if(all, [](const Scaling& scaling) { return scaling.by_tokens.empty(); });
  return all;
}

Change::Verdict Change::verdict() const {
  if (ratio() > 1 + kSmallestChange && now.p10_us > before.p90_us) return Verdict::slower;
  if (ratio() < 1 - kSmallestChange && now.p90_us < before.p10_us) return Verdict::faster;
  return Verdict::same;
}

std::vector<Change> changes_of(const std::vector<Layer>& now, const std::vector<Layer>& before) {
  std::map<std::string, Row> old;
  const auto cell = [](const Row& row) {
    return fmt::format("{}\n{}\n{}", key_of(row), row.problem.tokens, row.peer);
  };
  std::vector<Change> changes;
  const auto each = [](const std::vector<Layer>& layers, const auto& visit) {
    for (const Layer& layer : layers) {
      for (const auto& [tokens, row] : layer.ours) visit(layer, row);
      for (const auto& [peer, sweep] : layer.peers)
        for (const auto& [tokens, row] : sweep) visit(layer, row);
    }
  };
  each(before, [&](const Layer&, const Row& row) { old[cell(row)] = row; });
  each(now, [&](const Layer& layer, const Row& row) {
    const auto match = old.find(cell(row));
    if (match == old.end()) return;
    const std::string peer = row.peer.empty() ? "" : ", " + row.peer;
    changes.push_back(
        {layer.machine, layer.name + peer, layer.short_name + peer, match->second, row});
  });
  std::stable_sort(changes.begin(), changes.end(),
                   [](const Change& a, const Change& b) { return a.ratio() > b.ratio(); });
  return changes;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace switchyard::cli::report
