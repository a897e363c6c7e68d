// The layer on a GPU: every preset at every batch size, whole layer from router logits, CUDA graph
// replay, another routing each time so that L2 is cold; the output is compared with the definition
// in the same run. One JSON line a row, and a table.

#include <fmt/chrono.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <vector>

#include "cuda/memory.h"
#include "cuda/stream.h"
#include "formats/convert.h"
#include "jit/kernel.h"
#include "moe/closeness.h"
#include "moe/gpu_plan.h"
#include "moe/reference.h"
#include "switchyard/problem.h"

namespace switchyard::bench {
namespace {

constexpr int kRoutings = 8;

struct Options {
  std::vector<std::string> presets = {"deepseek-v3-tp8", "qwen3-30b-a3b", "mixtral-8x7b",
                                      "gpt-oss-120b"};
  std::vector<int> tokens = {1, 8, 32, 128, 512, 4096};
  std::string out, commit, load = "random";
  bool all_variants = false, check = true;
  int samples = 20;
};

/// Random values that repeat after a while: making 10^10 of them would take longer than the rest.
class Values {
 public:
  explicit Values(std::uint64_t seed) : table_(kTable), random_(seed) {
    std::normal_distribution<float> normal;
    for (float& v : table_) v = normal(random_);
  }
  Tensor tensor(const Shape& shape, float scale) {
    Tensor t(DType::bf16, shape);
    std::vector<std::uint16_t> scaled(kTable);
    for (std::size_t i = 0; i < kTable; ++i) {
      const float v = table_[i] * scale;
      std::uint32_t bits;
      std::memcpy(&bits, &v, 4);
      scaled[i] = static_cast<std::uint16_t>((bits + 0x8000U) >> 16U);
    }
    constexpr std::int64_t kRun = 8192;
    for (std::int64_t at = 0; at < shape.elements(); at += kRun)
      std::copy_n(scaled.begin() + static_cast<std::ptrdiff_t>(random_() % (kTable - kRun)),
                  std::min(kRun, shape.elements() - at), t.as<std::uint16_t>() + at);
    return t;
  }
  Tensor floats(const Shape& shape, float scale) {
    Tensor t(DType::f32, shape);
    std::normal_distribution<float> normal(0, scale);
    std::generate_n(t.as<float>(), shape.elements(), [&] { return normal(random_); });
    return t;
  }

 private:
  static constexpr std::size_t kTable = (std::size_t{1} << 21) - 9;
  std::vector<float> table_;
  std::mt19937_64 random_;
};

MoeWeights random_weights(const MoeProblem& p, Values& values) {
  const MoeConfig& c = p.config;
  const std::int64_t outputs = (c.activation.gated() ? 2 : 1) * c.intermediate;
  const auto scale = [](int in) { return 1 / std::sqrt(static_cast<float>(in)); };
  MoeWeights w;
  w.experts.gate_up.elements = values.tensor({c.experts, outputs, c.hidden}, scale(c.hidden));
  w.experts.down.elements =
      values.tensor({c.experts, c.hidden, c.intermediate}, scale(c.intermediate));
  if (p.bias) {
    w.experts.gate_up.bias = values.floats({c.experts, outputs}, 0.1F);
    w.experts.down.bias = values.floats({c.experts, c.hidden}, 0.1F);
  }
  const RoutingMethod method = c.routing.method;
  if (method == RoutingMethod::deepseek_v3 || method == RoutingMethod::sigmoid_bias ||
      method == RoutingMethod::sqrt_softplus_bias)
    w.correction_bias = values.floats({c.experts}, 0.01F);
  return w;
}

/// Logits [T, E] whose experts are about equally, very unequally, or all equally chosen.
Tensor logits(const MoeProblem& p, const std::string& load, Values& values) {
  Tensor t = values.floats({p.tokens, p.config.experts}, 1.0F);
  for (std::int64_t i = 0; i < t.shape().elements(); ++i) {
    const auto e = static_cast<float>(i % p.config.experts);
    if (load == "zipf") t.as<float>()[i] -= 1.2F * std::log1p(e);
    if (load == "hot") t.as<float>()[i] += e < static_cast<float>(p.config.top_k) ? 20.0F : 0.0F;
  }
  return t;
}

/// "2026-11-21"
std::string today() {
  return fmt::format("{:%F}", fmt::gmtime(std::time(nullptr)));
}

class Gpu {
 public:
  Gpu()
      : context(cuda::Context::open(0)),
        current(context),
        stream(context),
        loader(context, std::make_shared<jit::Cache>(jit::cache_options_from_env())) {}

  /// TB/s of reading 4 GiB.
  double read_ceiling() {
    struct Args {
      const void* from;
      long long count;
      void* sink;
    };
    const jit::Launch launch = {
        .kernel = loader.kernel({.file = "tune/ceilings.cuh",
                                 .instance = "switchyard::tune::read_kernel",
                                 .arch = jit::architecture(context.info().sm),
                                 .options = {}}),
        .grid = {static_cast<unsigned>(context.info().multiprocessors) * 4},
        .block = {512},
        .cluster = {},
        .smem_bytes = 0,
        .overlap_previous = false};
    constexpr std::size_t kBytes = std::size_t{4} << 30;
    const cuda::DeviceBuffer buffer(context, kBytes), sink(context, 4);
    cuda::fill(buffer.data(), 0x5a, kBytes, stream.get());
    double best = 1e30;
    for (int i = 0; i < 8; ++i) {
      const cuda::Event start(context, cuda::Timing::on), end(context, cuda::Timing::on);
      start.record(stream.get());
      jit::enqueue(launch, Args{buffer.data(), kBytes / 16, sink.data()}, stream.get());
      end.record(stream.get());
      best = std::min(best, cuda::elapsed_us(start, end));
    }
    return static_cast<double>(kBytes) / best * 1e-6;
  }

  cuda::Context context;
  cuda::Current current;
  cuda::Stream stream;
  jit::Loader loader;
};

struct Times {
  double median, p10, p90;
};

class Batch {
 public:
  Batch(Gpu& gpu, const moe::GpuLayer& layer, const MoeProblem& p, const MoeWeights& weights,
        const Options& options, Values& values)
      : gpu_(gpu), layer_(layer), problem_(p), weights_(weights), options_(options) {
    tokens_ = values.tensor({p.tokens, p.config.hidden}, 1);
    device_tokens_ = upload(tokens_);
    for (int i = 0; i < kRoutings; ++i) {
      logits_.push_back(logits(p, options.load, values));
      device_logits_.push_back(upload(logits_.back()));
    }
    const auto size = static_cast<std::size_t>(tokens_.bytes());
    out_ = cuda::DeviceBuffer(gpu.context, size);
    ids_ = cuda::DeviceBuffer(gpu.context, static_cast<std::size_t>(p.tokens) *
                                               static_cast<std::size_t>(p.config.top_k) * 4);
    route_all();
  }

  double active() const { return active_; }

  nlohmann::json measure(const moe::GpuExperts& experts) {
    moe::GpuPlan plan =
        moe::make_gpu_plan(layer_.shape(), problem_.tokens, gpu_.context.info(), experts);
    load(plan, layer_);
    const cuda::DeviceBuffer workspace(gpu_.context, plan.workspace_bytes);
    cuda::fill(workspace.data(), 0xd5, plan.workspace_bytes, gpu_.stream.get());
    const auto enqueue = [&](int i) {
      moe::run_gpu(layer_, plan, buffers(workspace, i), gpu_.stream.get());
    };
    enqueue(0);
    const std::vector<std::uint16_t> first = read_out();
    cuda::fill(workspace.data(), 0x2a, plan.workspace_bytes, gpu_.stream.get());
    enqueue(0);
    nlohmann::json row;
    row["variant"] = to_string(experts);
    row["repeatable"] = read_out() == first;
    if (options_.check) row["error_ratio"] = error_ratio(first);
    row["workspace_bytes"] = plan.workspace_bytes;
    const Times t = time(enqueue);
    row["median_us"] = t.median, row["p10_us"] = t.p10, row["p90_us"] = t.p90;
    row["samples"] = options_.samples;
    return row;
  }

 private:
  cuda::DeviceBuffer upload(const Tensor& t) const {
    cuda::DeviceBuffer b(gpu_.context, static_cast<std::size_t>(t.bytes()));
    cuda::copy_to_device(b.data(), t.data(), b.bytes(), gpu_.stream.get());
    gpu_.stream.synchronize();
    return b;
  }
  MoeBuffers buffers(const cuda::DeviceBuffer& workspace, int routing) const {
    MoeBuffers b;
    b.tokens = {device_tokens_.data(), DType::bf16, tokens_.shape()};
    b.router_logits = {device_logits_[static_cast<std::size_t>(routing)].data(), DType::f32,
                       logits_[0].shape()};
    b.out = {out_.data(), DType::bf16, tokens_.shape()};
    b.chosen_ids = {ids_.data(), DType::i32, {problem_.tokens, problem_.config.top_k}};
    b.workspace = {workspace.data(), workspace.bytes()};
    return b;
  }
  std::vector<std::uint16_t> read_out() const {
    std::vector<std::uint16_t> host(static_cast<std::size_t>(tokens_.shape().elements()));
    cuda::copy_to_host(host.data(), out_.data(), host.size() * 2, gpu_.stream.get());
    gpu_.stream.synchronize();
    return host;
  }

  MoeBuffers host_inputs(int routing) const {
    MoeBuffers b;
    b.tokens = tokens_.view();
    b.router_logits = logits_[static_cast<std::size_t>(routing)].view();
    b.out.dtype = DType::bf16;
    return b;
  }

  /// The definition's routing of every set: how many experts are read.
  void route_all() {
    for (int i = 0; i < kRoutings; ++i) {
      const moe::Routed routed =
          moe::reference_route(problem_.config, weights_, host_inputs(i), moe::Rounding::exact);
      const std::set<std::int32_t> experts(routed.ids.begin(), routed.ids.end());
      active_ += static_cast<double>(experts.size()) / kRoutings;
    }
  }

  double error_ratio(const std::vector<std::uint16_t>& out) {
    if (exact_.empty()) {
      const std::int64_t last = problem_.tokens - 1;
      chosen_ =
          last == 0 ? std::vector<std::int64_t>{0} : std::vector<std::int64_t>{0, last / 3, last};
      if (chosen_.size() == 3 && chosen_[1] == 0) chosen_ = {0, last};
      const MoeBuffers inputs = host_inputs(0);
      for (const auto rounding : {moe::Rounding::exact, moe::Rounding::honest}) {
        const moe::Routed routed =
            moe::reference_route(problem_.config, weights_, inputs, rounding);
        (rounding == moe::Rounding::exact ? exact_ : honest_) =
            moe::reference_experts(problem_.config, weights_, inputs, routed, rounding, chosen_);
      }
    }
    std::vector<double> rows(exact_.size());
    const std::int64_t width = problem_.config.hidden;
    for (std::size_t i = 0; i < chosen_.size(); ++i)
      formats::load_run(DType::bf16, out.data(), chosen_[i] * width, width,
                        &rows[i * static_cast<std::size_t>(width)]);
    const moe::Closeness close = moe::compare(rows, honest_, exact_, chosen_.size(), 0x1p-9);
    return close.finite_match ? close.worst_ratio : 1e9;
  }

  template <class Enqueue>
  Times time(const Enqueue& enqueue) const {
    const cuda::CUstream stream = gpu_.stream.get();
    const cuda::Graph graph = cuda::Graph::capture(gpu_.context, stream, [&] {
      for (int i = 0; i < kRoutings; ++i) enqueue(i);
    });
    std::vector<double> us;
    for (int i = 0; i < options_.samples + 2; ++i) {
      const cuda::Event start(gpu_.context, cuda::Timing::on), end(gpu_.context, cuda::Timing::on);
      start.record(stream);
      graph.launch(stream);
      end.record(stream);
      const double t = cuda::elapsed_us(start, end) / kRoutings;
      if (i >= 2) us.push_back(t);
    }
    std::sort(us.begin(), us.end());
    return {us[us.size() / 2], us[us.size() / 10], us[us.size() - 1 - us.size() / 10]};
  }

  Gpu& gpu_;
  const moe::GpuLayer& layer_;
  const MoeProblem& problem_;
  const MoeWeights& weights_;
  const Options& options_;
  Tensor tokens_;
  std::vector<Tensor> logits_;
  cuda::DeviceBuffer device_tokens_, out_, ids_;
  std::vector<cuda::DeviceBuffer> device_logits_;
  std::vector<std::int64_t> chosen_;
  std::vector<double> exact_, honest_;
  double active_ = 0;
};

void run(const Options& options) {
  Gpu gpu;
  const double ceiling = gpu.read_ceiling();
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::printf("%s, read ceiling %.2f TB/s\n", to_string(gpu.context.info()).c_str(), ceiling);
  std::printf("%-16s %6s %7s %9s %9s %9s %8s %6s %6s  %s\n", "preset", "M", "active", "median us",
              "p10", "p90", "floor", "eff.", "error", "variant");
  std::ofstream file;
  if (!options.out.empty())
    file.open(std::filesystem::path(options.out) / (today() + "-h200-layer.jsonl"), std::ios::app);
  for (const std::string& name : options.presets) {
    Values values(1);
    MoeProblem problem = preset(name, 1);
    problem.format = weight_format("bf16");
    problem.config.act = ActivationFormat::bf16;
    const MoeWeights weights = random_weights(problem, values);
    const moe::GpuLayer layer(problem.config, weights, 0);
    for (const int tokens : options.tokens) {
      problem.tokens = tokens;
      Batch batch(gpu, layer, problem, weights, options, values);
      std::vector<std::string> declined;
      std::vector<moe::GpuExperts> all =
          moe::gpu_candidates(layer.shape(), tokens, gpu.context.info(), declined);
      if (!options.all_variants) all.resize(1);
      const double matrix = static_cast<double>(problem.config.hidden) *
                            problem.config.intermediate *
                            (problem.config.activation.gated() ? 3 : 2);
      const double bytes = batch.active() * matrix * 2 + 4.0 * tokens * problem.config.hidden;
      const double flops = 2.0 * tokens * problem.config.top_k * matrix;
      for (const moe::GpuExperts& experts : all) {
        nlohmann::json row = batch.measure(experts);
        // 800 TFLOP/s: what cuBLAS reaches on an H200 (ceiling_mma_tflops of the row).
        const double floor = std::max(bytes / ceiling * 1e-6, flops / 800e6);
        const double median = row["median_us"];
        row["problem"] = to_string(problem), row["preset"] = name, row["m"] = tokens;
        row["format"] = "bf16", row["active_experts"] = batch.active();
        row["routing_load"] = options.load;
        row["bytes"] = bytes, row["flops"] = flops, row["floor_us"] = floor;
        row["efficiency"] = floor / median, row["ceiling_read_tbs"] = ceiling;
        row["ceiling_mma_tflops"] = 800, row["cold_l2"] = true, row["graph"] = true;
        row["peer"] = nullptr, row["gpu"] = gpu.context.info().name, row["cuda"] = "13.0";
        row["commit"] = options.commit, row["date"] = today();
        std::printf("%-16s %6d %7.1f %9.1f %9.1f %9.1f %8.1f %6.3f %6.2f  %s%s\n", name.c_str(),
                    tokens, batch.active(), median, row["p10_us"].get<double>(),
                    row["p90_us"].get<double>(), floor, floor / median,
                    row.value("error_ratio", -1.0), row["variant"].get<std::string>().c_str(),
                    row["repeatable"].get<bool>() ? "" : "  NOT REPEATABLE");
        std::fflush(stdout);
        if (file.is_open()) file << row.dump() << std::endl;
      }
    }
  }
}

}  // namespace
}  // namespace switchyard::bench

int main(int argc, char** argv) {
  switchyard::bench::Options options;
  CLI::App app{"Times the MoE layer on a GPU."};
  app.add_option("--presets", options.presets, "Presets, their weights as BF16")->delimiter(',');
  app.add_option("--tokens,-m", options.tokens, "Batch sizes")->delimiter(',');
  app.add_option("--load", options.load, "random, zipf or hot");
  app.add_option("--out", options.out, "Append JSON lines to a file in this folder");
  app.add_option("--commit", options.commit, "For the rows");
  app.add_option("--samples", options.samples, "Graph launches of 8 layers each");
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
