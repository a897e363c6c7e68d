// The layer on a GPU: presets or problem lines at several batch sizes, whole layer from router
// logits, CUDA graph replay, another routing each time so that L2 is cold; the output is compared
// with the definition in the same run. One JSON line a row, and a table.

#include <fmt/chrono.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "bench/gpu/batch.h"
#include "bench/gpu/cases.h"
#include "jit/nvrtc.h"

namespace switchyard::bench {
namespace {

struct Options {
  std::vector<std::string> presets = {"deepseek-v3-tp8", "qwen3-30b-a3b", "mixtral-8x7b",
                                      "gpt-oss-120b"};
  std::vector<int> tokens = {1, 8, 32, 128, 512, 4096};
  std::string out, cases, commit, format = "bf16", topic = "layer", load = "random";
  bool all_variants = false, check = true;
  int samples = 30;
};

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

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    const cuda::DeviceInfo& info = machine_.context.info();
    std::printf("%s, read ceiling %.2f TB/s, cuBLAS %.0f TFLOP/s\n", to_string(info).c_str(),
                ceilings_.read_tbs, ceilings_.mma_tflops);
    std::printf("%-16s %-5s %6s %7s %9s %9s %9s %8s %6s %6s %6s  %s\n", "layer", "", "M", "active",
                "median us", "p10", "p90", "floor", "eff.", "error", "host", "variant");
    if (options.out.empty()) return;
    const std::string name =
        fmt::format("{}-{}-{}.jsonl", today(), short_name(info.name), options.topic);
    file_.open(std::filesystem::path(options.out) / name, std::ios::app);
  }

  void run(LayerCase layer_case) {
    MoeProblem& problem = layer_case.problem;
    Values values(1);
    const MoeWeights weights = random_weights(problem, values);
    MoeState layer;
    layer.config = problem.config;
    layer.device = Device::cuda();
    layer.gpu = std::make_unique<moe::GpuLayer>(problem.config, weights, 0);
    for (const int tokens : layer_case.tokens) {
      problem.tokens = tokens;
      Batch batch(machine_, layer, weights, problem, values);
      for (const moe::GpuExperts& experts : variants(layer.gpu->shape(), tokens))
        report(batch.measure(experts, options_.samples,
                             options_.check ? Compare::with_definition : Compare::no),
               layer_case, batch.active_experts());
    }
  }

 private:
  std::vector<moe::GpuExperts> variants(const moe::GpuShape& shape, int tokens) const {
    std::vector<std::string> declined;
    std::vector<moe::GpuExperts> all =
        moe::gpu_candidates(shape, tokens, machine_.context.info(), declined);
    if (!options_.all_variants) all.resize(std::min<std::size_t>(all.size(), 1));
    return all;
  }

  void report(nlohmann::json row, const LayerCase& of, double active) {
    const Work w = work(of.problem, active);
    const double floor =
        std::max(w.bytes / ceilings_.read_tbs, w.flops / ceilings_.mma_tflops) * 1e-6;
    const double median = row["median_us"];
    row["problem"] = to_string(of.problem), row["m"] = of.problem.tokens;
    row["preset"] = of.preset.empty() ? nlohmann::json() : nlohmann::json(of.preset);
    row["format"] = to_string(of.problem.format), row["routing_load"] = of.problem.load;
    row["active_experts"] = active, row["bytes"] = w.bytes, row["flops"] = w.flops;
    row["floor_us"] = floor, row["efficiency"] = floor / median;
    row["ceiling_read_tbs"] = ceilings_.read_tbs;
    row["ceiling_mma_tflops"] = ceilings_.mma_tflops;
    row["cold_l2"] = true, row["graph"] = true, row["peer"] = nullptr;
    row["gpu"] = machine_.context.info().name, row["driver"] = driver_version();
    row["cuda"] = jit::nvrtc().version;
    row["commit"] = options_.commit, row["date"] = today();
    std::printf("%-16s %-5s %6d %7.1f %9.1f %9.1f %9.1f %8.1f %6.3f %6.2f %6.1f  %s%s%s\n",
                of.preset.c_str(), to_string(of.problem.format).c_str(), of.problem.tokens, active,
                median, row["p10_us"].get<double>(), row["p90_us"].get<double>(), floor,
                floor / median, row.value("error_ratio", -1.0), row["host_us"].get<double>(),
                row["variant"].get<std::string>().c_str(),
                row["repeatable"].get<bool>() ? "" : "  NOT REPEATABLE",
                of.preset.empty() ? ("  " + to_string(of.problem)).c_str() : "");
    if (file_.is_open()) file_ << row.dump() << std::endl;
  }

  const Options& options_;
  Machine machine_;
  Ceilings ceilings_ = measure_ceilings(machine_);
  std::ofstream file_;
};

void run(const Options& options) {
  Bench bench(options);
  const std::vector<LayerCase> cases =
      options.cases.empty() ? preset_cases(options.presets, weight_format(options.format),
                                           options.tokens, options.load)
                            : file_cases(options.cases);
  for (const LayerCase& layer : cases) bench.run(layer);
}

}  // namespace
}  // namespace switchyard::bench

int main(int argc, char** argv) {
  switchyard::bench::Options options;
  CLI::App app{"Times the MoE layer on a GPU."};
  app.add_option("--presets", options.presets, "Published layers")->delimiter(',');
  app.add_option("--format", options.format, "weight format of --presets: bf16, nvfp4 or mxfp4")
      ->capture_default_str();
  app.add_option("--tokens,-m", options.tokens, "Batch sizes")->delimiter(',');
  app.add_option("--routing", options.load, "How tokens choose experts")
      ->check(CLI::IsMember({"random", "balanced", "zipf", "hot"}));
  app.add_option("--cases", options.cases, "A file of problem lines instead (bench/cases)");
  app.add_option("--out", options.out, "Append JSON lines to a file in this folder");
  app.add_option("--topic", options.topic, "Last word of that file's name");
  app.add_option("--commit", options.commit, "For the rows");
  app.add_option("--samples", options.samples, "Graph launches of 8 layers each")
      ->check(CLI::PositiveNumber);
  app.add_flag("--all-variants", options.all_variants, "Every candidate, not only the planner's");
  app.add_flag("!--no-check", options.check, "Do not compare with the definition");
  CLI11_PARSE(app, argc, argv);
  try {
    switchyard::bench::run(options);
  } catch (const std::exception& error) {
    std::cerr << "switchyard_gpu_bench: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
