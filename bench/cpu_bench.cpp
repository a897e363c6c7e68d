// switchyard_bench: times the layer on a CPU and prints one JSON line a row.
//
// Weights stay cold: every call takes the experts after those of the call before, round and round,
// so a layer larger than the caches is read from memory as it is between two layers of a model.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/ceilings.h"
#include "switchyard/switchyard.h"

namespace {

using namespace switchyard;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

struct Options {
  std::string problem, preset, format = "nvfp4", output, commit, cpu;
  std::vector<int> tokens = {1, 32};
  int threads = 0, samples = 30, experts = 0;
  double seconds = 10;
  bool check = true;
};

/// Slots of one call: every expert in turn, `next` on.
struct Slots {
  Tensor ids, weights;

  Slots(int tokens, int top_k)
      : ids(DType::i32, {tokens, top_k}), weights(DType::f32, {tokens, top_k}) {
    std::fill_n(weights.as<float>(), weights.shape().elements(), 1.0F / static_cast<float>(top_k));
  }
  void take(int experts, std::int64_t& next) {
    for (std::int64_t i = 0; i < ids.shape().elements(); ++i)
      ids.as<std::int32_t>()[i] = static_cast<std::int32_t>(next++ % experts);
  }
};

double percentile(const std::vector<double>& sorted, double share) {
  return sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5)];
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  char text[16];
  std::strftime(text, sizeof(text), "%Y-%m-%d", std::gmtime(&now));
  return text;
}

/// The line of "grouped_gemm" steps that explain() prints for the routed experts.
std::string variant_of(const MoePlan& plan) {
  const std::string text = plan.explain();
  const std::size_t at = text.find("experts gate_up");
  const std::size_t end = text.find('\n', at);
  const std::string line = at == std::string::npos ? "" : text.substr(at, end - at);
  const std::size_t colon = line.find(": ");
  return colon == std::string::npos ? line : line.substr(colon + 2);
}

class Bench {
 public:
  explicit Bench(Options options) : options_(std::move(options)) {
    problem_ =
        options_.problem.empty() ? preset(options_.preset, 1) : parse_problem(options_.problem);
    if (options_.problem.empty()) problem_.format = weight_format(options_.format);
    if (options_.experts > 0) problem_.config.experts = options_.experts;
    problem_.tokens = *std::max_element(options_.tokens.begin(), options_.tokens.end());
  }

  void run() {
    MoeCase made = make_case(problem_, 1);
    tokens_ = std::move(made.tokens);
    const Device device = Device::cpu(options_.threads);
    read_gbs_ = bench::read_ceiling_gbs(threads());
    gflops_ = bench::flop_ceiling_gflops(threads());
    const ExpertWeights& experts = made.weights.experts;
    expert_bytes_ = (experts.gate_up.bytes() + experts.down.bytes()) / experts.gate_up.experts();
    std::vector<double> ratios;
    for (const int tokens : options_.tokens)
      ratios.push_back(options_.check ? error_ratio(made, tokens) : -1);
    const MoeLayer layer(made.config, std::move(made.weights), device);
    for (std::size_t i = 0; i < options_.tokens.size(); ++i)
      measure(layer, options_.tokens[i], ratios[i]);
  }

 private:
  int threads() const {
    if (options_.threads > 0) return options_.threads;
    const std::string text = to_string(Device::cpu());  // "cpu, 2 threads"
    return std::stoi(text.substr(text.find(' ') + 1));
  }

  MoeBuffers inputs(int tokens, const Slots& slots) const {
    MoeBuffers b;
    b.tokens = {tokens_.data(), tokens_.dtype(), {tokens, problem_.config.hidden}};
    b.expert_ids = slots.ids.view();
    b.expert_weights = slots.weights.view();
    b.out.dtype = DType::bf16;
    b.out.shape = {tokens, problem_.config.hidden};
    return b;
  }

  double error_ratio(const MoeCase& made, int tokens) const {
    Slots slots(tokens, problem_.config.top_k);
    std::int64_t next = 0;
    slots.take(problem_.config.experts, next);
    return check(made.config, made.weights, inputs(tokens, slots), Device::cpu(options_.threads))
        .error_ratio;
  }

  void measure(const MoeLayer& layer, int tokens, double ratio) {
    const MoeConfig& config = layer.config();
    const MoePlan plan = layer.plan(tokens);
    Tensor out(DType::bf16, {tokens, config.hidden});
    Tensor workspace(DType::u8, {static_cast<std::int64_t>(plan.workspace_bytes())});
    Slots slots(tokens, config.top_k);
    MoeBuffers buffers = inputs(tokens, slots);
    buffers.out = out.view();
    buffers.workspace = {workspace.as<std::byte>(), plan.workspace_bytes()};
    std::vector<double> us;
    double total = 0;
    for (int sample = -2; sample < options_.samples; ++sample) {
      slots.take(config.experts, next_);
      const auto start = Clock::now();
      plan.run(buffers);
      const double took = std::chrono::duration<double>(Clock::now() - start).count();
      if (sample < 0) continue;  // the first calls touch the workspace's pages
      us.push_back(took * 1e6);
      total += took;
      if (total > options_.seconds && us.size() >= 5) break;
    }
    std::sort(us.begin(), us.end());
    print(plan, tokens, us, ratio);
  }

  void print(const MoePlan& plan, int tokens, const std::vector<double>& us, double ratio) {
    MoeProblem problem = problem_;
    problem.tokens = tokens;
    problem.load = "balanced";
    const MoeConfig& c = problem.config;
    const std::int64_t slots = std::int64_t{tokens} * c.top_k;
    const std::int64_t matrices = c.activation.gated() ? 3 : 2;
    const std::int64_t flops = 2 * slots * matrices * c.expert_width() * c.intermediate;
    const std::int64_t bytes = std::min<std::int64_t>(slots, c.experts) * expert_bytes_ +
                               std::int64_t{tokens} * c.hidden * 4;
    const double median = percentile(us, 0.5);
    const double read_us = static_cast<double>(bytes) / read_gbs_ * 1e-3;
    const double flop_us = gflops_ > 0 ? static_cast<double>(flops) / gflops_ * 1e-3 : 0;
    const double floor_us = std::max(read_us, flop_us);
    Json row;
    row["problem"] = to_string(problem);
    row["preset"] = options_.problem.empty() ? Json(options_.preset) : Json(nullptr);
    row["m"] = tokens;
    row["format"] = to_string(problem.format);
    row["variant"] = variant_of(plan);
    row["threads"] = threads();
    row["median_us"] = median;
    row["p10_us"] = percentile(us, 0.1);
    row["p90_us"] = percentile(us, 0.9);
    row["samples"] = us.size();
    row["bytes"] = bytes;
    row["flops"] = flops;
    row["gbs"] = static_cast<double>(bytes) / median * 1e-3;
    row["gflops"] = static_cast<double>(flops) / median * 1e-3;
    row["ceiling_read_gbs"] = read_gbs_;
    row["ceiling_gflops"] = gflops_;
    row["floor_us"] = floor_us;
    row["bound"] = read_us >= flop_us ? "memory" : "arithmetic";
    row["efficiency"] = floor_us / median;
    row["error_ratio"] = ratio < 0 ? Json(nullptr) : Json(ratio);
    row["workspace_bytes"] = plan.workspace_bytes();
    row["peer"] = nullptr;
    row["cpu"] = options_.cpu;
    row["commit"] = options_.commit;
    row["date"] = today();
    std::cout << row.dump() << std::endl;
    if (!options_.output.empty())
      std::ofstream(options_.output, std::ios::app) << row.dump() << '\n';
  }

  Options options_;
  MoeProblem problem_;
  Tensor tokens_;
  double read_gbs_ = 0, gflops_ = 0;
  std::int64_t expert_bytes_ = 0, next_ = 0;
};

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  options.cpu = cpu_name();
  CLI::App app("Times the MoE layer on this CPU: one JSON line a row.");
  auto* problem =
      app.add_option("--problem", options.problem, "a problem line: 'moe t1 h2048 ...'");
  app.add_option("--preset", options.preset, "a model's layer, such as qwen3-30b-a3b")
      ->excludes(problem);
  app.add_option("--format", options.format, "weight format of --preset")->capture_default_str();
  app.add_option("--experts", options.experts, "experts instead of the problem's");
  app.add_option("--tokens", options.tokens, "tokens of each row")->delimiter(',');
  app.add_option("--threads", options.threads, "0 = one per core")->capture_default_str();
  app.add_option("--samples", options.samples, "calls per row")->capture_default_str();
  app.add_option("--seconds", options.seconds, "stop a row after this")->capture_default_str();
  app.add_flag("!--no-check", options.check, "leave out the comparison with the definition");
  app.add_option("--commit", options.commit, "recorded in each row");
  app.add_option("--append", options.output, "also append the rows to this file");
  CLI11_PARSE(app, argc, argv);
  if (options.problem.empty() && options.preset.empty()) options.preset = "qwen3-30b-a3b";
  try {
    Bench(options).run();
  } catch (const Error& error) {
    std::cerr << "switchyard_bench: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
