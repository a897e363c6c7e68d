// Whole layers from router logits, CUDA graph replay, another routing each time, cold L2; the
// output is compared with the definition in the same run.

#include "cli/bench/bench.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>

#include "cli/bench/batch.h"
#include "cuda/driver.h"
#include "jit/nvrtc.h"
#include "moe/gpu_picks.h"

namespace switchyard::cli::bench {
namespace {

using nlohmann::json;

/// "2026-11-21"
std::string today() {
  return fmt::format("{:%F}", fmt::gmtime(std::time(nullptr)));
}

/// "NVIDIA H200" -> "h200"
std::string short_name(const std::string& gpu) {
  std::string word = gpu.substr(gpu.rfind(' ') + 1);
  for (char& c : word) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return word;
}

/// Medians of other programs' rows, by problem line.
std::map<std::string, double> peers_of(const std::string& file) {
  std::map<std::string, double> peers;
  if (file.empty()) return peers;
  std::ifstream lines(file);
  if (!lines) throw InvalidArgument(fmt::format("[bench] --peers: {} cannot be read.", file));
  for (std::string line; std::getline(lines, line);) {
    const json row = json::parse(line, nullptr, false);
    if (row.is_discarded() || !row.contains("peer") || !row.contains("problem"))
      throw InvalidArgument(
          fmt::format("[bench] --peers: expected rows of bench/peers.py, got '{}' in {}.",
                      line.substr(0, 40), file));
    if (!row["peer"].is_null()) peers[row["problem"]] = row["median_us"];
  }
  return peers;
}

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options), peers_(peers_of(options.peers)) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    const cuda::DeviceInfo& info = machine_.context.info();
    if (!options.json)
      fmt::print("{}, read ceiling {:.2f} TB/s, cuBLAS {:.0f} TFLOP/s\n", to_string(info),
                 ceilings_.read_tbs, ceilings_.mma_tflops);
    if (!options.json && options.ops)
      fmt::print("{:<16} {:<5} {:>6} {:<9} {:>9} {:>6} {:>7} {:>8} {:>6}  {}\n", "layer", "", "M",
                 "launch", "us", "TB/s", "TFLOP/s", "floor", "eff.", "variant");
    else if (!options.json)
      fmt::print(
          "{:<16} {:<5} {:>6} {:>7} {:>9} {:>9} {:>9} {:>6} {:>7} {:>8} {:>6} {:>6} {:>6} "
          "{:>6}  {}\n",
          "layer", "", "M", "active", "median us", "p10", "p90", "TB/s", "TFLOP/s", "floor", "eff.",
          "error", "host", "peer x", "variant");
    if (options.out.empty()) return;
    const std::string name =
        fmt::format("{}-{}-{}.jsonl", today(), short_name(info.name), options.topic);
    file_.open(std::filesystem::path(options.out) / name, std::ios::app);
    if (!file_) throw DeviceError(fmt::format("[bench] --out: {} cannot be written.", options.out));
  }

  void run(const LayerCase& layer_case) {
    MoeProblem problem = layer_case.problem;
    if (problem.tp_ranks > 1 || problem.ep_ranks > 1)
      throw Unsupported(
          "[bench] tp, ep: a part of a layer is not measured. Write the line as its "
          "rank sees it.");
    moe::Values values(1);
    const MoeWeights weights = moe::random_weights(problem, problem.config.experts, values);
    MoeState layer;
    layer.config = problem.config;
    layer.device = Device::cuda();
    layer.gpu = std::make_unique<moe::GpuLayer>(problem.config, weights, 0);
    for (const int tokens : layer_case.tokens) {
      problem.tokens = tokens;
      Batch batch(machine_, layer, weights, problem, values);
      const LayerCase at{layer_case.preset, problem, {}};
      for (const moe::GpuExperts& experts : variants(layer.gpu->shape(), tokens))
        measure(batch, experts, at);
    }
  }

  json rows = json::array();

 private:
  std::vector<moe::GpuExperts> variants(const moe::GpuShape& shape, int tokens) const {
    const cuda::DeviceInfo& device = machine_.context.info();
    std::vector<std::string> declined;
    if (options_.all_variants) return moe::gpu_candidates(shape, tokens, device, declined);
    if (options_.model) return {moe::make_gpu_plan(shape, tokens, device).experts};
    return {moe::tuned_plan(shape, tokens, device).experts};
  }

  void measure(Batch& batch, const moe::GpuExperts& experts, const LayerCase& at) {
    if (options_.ops) {
      for (json& row : batch.measure_ops(experts, options_.samples)) report_op(std::move(row), at);
      return;
    }
    json row = batch.measure(experts, options_.samples,
                             options_.check ? Compare::with_definition : Compare::no);
    const Work w = work(at.problem, batch.active_experts());
    row["active_experts"] = batch.active_experts();
    row["bytes"] = w.bytes, row["flops"] = w.flops;
    describe(row, at);
    const double us = row["median_us"];
    const auto peer = peers_.find(to_string(at.problem));
    if (!options_.json)
      fmt::print(
          "{:<16} {:<5} {:6} {:7.1f} {:9.1f} {:9.1f} {:9.1f} {:6.2f} {:7.1f} {:8.1f} {:6.3f} "
          "{:6.2f} {:6.1f} {:>6}  {}{}{}\n",
          at.preset, to_string(at.problem.format), at.problem.tokens, batch.active_experts(), us,
          row["p10_us"].get<double>(), row["p90_us"].get<double>(), w.bytes / us * 1e-6,
          w.flops / us * 1e-6, row["floor_us"].get<double>(), row["efficiency"].get<double>(),
          row.value("error_ratio", -1.0), row["host_us"].get<double>(),
          peer == peers_.end() ? "-" : fmt::format("{:.2f}", peer->second / us),
          row["variant"].get<std::string>(),
          row["repeatable"].get<bool>() ? "" : "  NOT REPEATABLE",
          at.preset.empty() ? "  " + to_string(at.problem) : "");
    keep(std::move(row));
  }

  void report_op(json row, const LayerCase& at) {
    row["bench"] = "op";  // no row of a layer
    describe(row, at);
    const double us = row["median_us"];
    if (!options_.json)
      fmt::print("{:<16} {:<5} {:6} {:<9} {:9.1f} {:6.2f} {:7.1f} {:8.1f} {:6.3f}  {}\n", at.preset,
                 to_string(at.problem.format), at.problem.tokens, row["op"].get<std::string>(), us,
                 row["bytes"].get<double>() / us * 1e-6, row["flops"].get<double>() / us * 1e-6,
                 row["floor_us"].get<double>(), row["efficiency"].get<double>(),
                 row["variant"].get<std::string>());
    keep(std::move(row));
  }

  /// What rows of layers and of launches share.
  void describe(json& row, const LayerCase& of) const {
    const double floor = std::max(row["bytes"].get<double>() / ceilings_.read_tbs,
                                  row["flops"].get<double>() / ceilings_.mma_tflops) *
                         1e-6;
    row["problem"] = to_string(of.problem), row["m"] = of.problem.tokens;
    row["preset"] = of.preset.empty() ? json() : json(of.preset);
    row["format"] = to_string(of.problem.format), row["routing_load"] = of.problem.load;
    row["floor_us"] = floor, row["efficiency"] = floor / row["median_us"].get<double>();
    row["ceiling_read_tbs"] = ceilings_.read_tbs;
    row["ceiling_mma_tflops"] = ceilings_.mma_tflops;
    row["cold_l2"] = true, row["graph"] = true, row["peer"] = nullptr;
    row["gpu"] = machine_.context.info().name, row["driver"] = cuda::driver_release();
    row["cuda"] = jit::nvrtc().version;
    row["commit"] = options_.commit, row["date"] = today();
  }

  void keep(json row) {
    if (file_.is_open()) file_ << row.dump() << std::endl;
    rows.push_back(std::move(row));
  }

  const Options& options_;
  const std::map<std::string, double> peers_;
  Machine machine_;
  Ceilings ceilings_ = measure_ceilings(machine_);
  std::ofstream file_;
};

}  // namespace

json measure(const std::vector<LayerCase>& cases, const Options& options) {
  Bench bench(options);
  for (const LayerCase& layer : cases) bench.run(layer);
  return std::move(bench.rows);
}

}  // namespace switchyard::cli::bench
