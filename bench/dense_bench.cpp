// The dense GEMMs of the DenseGEMM family on a GPU, at the reference systems' own shape unless the
// options say another: decoding of the activations included, CUDA graph replay, L2 cold, and
// sampled outputs compared with the definition in the same run. One JSON line a row, and a table.

#include <fmt/chrono.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/random.h"
#include "base/thread_pool.h"
#include "cli/bench/machine.h"
#include "cuda/driver.h"
#include "formats/bf16.cuh"
#include "formats/nvfp4.cuh"
#include "formats/scale_layout.cuh"
#include "jit/nvrtc.h"
#include "ops/dense_moe/gpu.h"
#include "ops/repack/upload.h"
#include "switchyard/error.h"

namespace switchyard::bench {
namespace {

using cli::bench::Ceilings;
using cli::bench::Machine;
using cli::bench::measure_ceilings;
using cuda::driver_release;
using dense_moe::GpuProblem;
using dense_moe::Phase;
using dense_moe::Tactic;
using Bytes = std::vector<std::uint8_t>;

struct Options {
  int hidden = 7168, intermediate = 256, experts = 256;
  std::vector<int> tokens = {1, 8, 16, 32, 64, 128, 256};
  std::string phase = "fc2", filter, out, commit;
  int samples = 20, most = 1;
};

/// NVFP4 of [rows, columns]: random codes, and scales around 1.
struct Numbers {
  Bytes codes, scales;  // scales row-major

  Numbers(std::int64_t rows, std::int64_t columns, std::uint64_t seed)
      : codes(static_cast<std::size_t>(rows * columns / 2)),
        scales(static_cast<std::size_t>(rows * columns / 16)) {
    const Random random(seed);
    for (std::size_t i = 0; i < codes.size(); i += 8) {
      const std::uint64_t bits = random.bits(i);
      for (std::size_t b = 0; b < 8 && i + b < codes.size(); ++b)
        codes[i + b] = static_cast<std::uint8_t>(bits >> 8 * b);
    }
    for (std::size_t i = 0; i < scales.size(); ++i)
      scales[i] = static_cast<std::uint8_t>(0x30 + random.below(i, 16));
  }
  double value(std::int64_t at) const {
    return static_cast<double>(formats::decode_e2m1(formats::nibble(codes.data(), at))) *
           static_cast<double>(formats::decode_e4m3(scales[static_cast<std::size_t>(at / 16)]));
  }
};

class Bench {
 public:
  explicit Bench(const Options& o)
      : o_(o),
        fc1_(o.phase == "fc1"),
        weights_(std::int64_t{o.experts} * (fc1_ ? 2 * o.intermediate : o.hidden),
                 fc1_ ? o.hidden : o.intermediate, 1) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    const repack::Matrix matrix = {
        .out = fc1_ ? 2 * o.intermediate : o.hidden,
        .in = fc1_ ? o.hidden : o.intermediate,
        .order = fc1_ ? repack::RowOrder::gate_up : repack::RowOrder::plain};
    tiles_ = cuda::DeviceBuffer(
        machine_.context, static_cast<std::size_t>(repack::tile_count(matrix)) *
                              static_cast<std::size_t>(o.experts * dense_moe::Config::kTileBytes));
    repack::upload_fp4({machine_.context, machine_.stream, machine_.loader}, matrix, o.experts,
                       {.weights = Weights::nvfp4,
                        .codes = std::as_bytes(std::span(weights_.codes)),
                        .scales = std::as_bytes(std::span(weights_.scales)),
                        .shift = 0},
                       tiles_.data());
    std::printf("%s, read ceiling %.2f TB/s, cuBLAS %.0f TFLOP/s\n",
                to_string(machine_.context.info()).c_str(), ceilings_.read_tbs,
                ceilings_.mma_tflops);
    std::printf("%-4s %5s %9s %9s %9s %6s %6s %7s %8s  %s\n", "", "m", "us", "p10", "p90", "TB/s",
                "TFLOPS", "floor", "error", "tactic");
    if (!o.out.empty())
      file_.open(std::filesystem::path(o.out) /
                     fmt::format("{:%F}-h200-dense.jsonl", fmt::gmtime(std::time(nullptr))),
                 std::ios::app);
  }

  void run() {
    for (const int tokens : o_.tokens) run(tokens);
  }

 private:
  void run(int tokens) {
    const GpuProblem p = {.phase = fc1_ ? Phase::fc1 : Phase::fc2,
                          .tokens = tokens,
                          .experts = o_.experts,
                          .hidden = o_.hidden,
                          .intermediate = o_.intermediate,
                          .out = fc1_ ? dense_moe::Out::fp4 : dense_moe::Out::bf16};
    const std::int64_t width = fc1_ ? o_.hidden : std::int64_t{o_.experts} * o_.intermediate;
    const Numbers x(tokens, width, 2);
    Bytes swizzled(static_cast<std::size_t>(formats::bytes_128x4(tokens, width / 16)));
    for (std::int64_t i = 0; i < tokens * width / 16; ++i)
      swizzled[static_cast<std::size_t>(formats::offset_128x4(
          i / (width / 16), i % (width / 16), width / 16))] = x.scales[static_cast<std::size_t>(i)];
    std::vector<float> alpha(static_cast<std::size_t>(o_.experts) *
                             static_cast<std::size_t>(fc1_ ? 1 : tokens));
    for (std::size_t i = 0; i < alpha.size(); ++i)
      alpha[i] = fc1_ ? 1e-4F : 1 + Random(3).uniform(i);
    const cuda::DeviceBuffer codes = upload(x.codes), scales = upload(swizzled),
                             alphas = upload(alpha);
    const std::int64_t outputs = fc1_ ? std::int64_t{o_.experts} * o_.intermediate : o_.hidden;
    const cuda::DeviceBuffer out(machine_.context, static_cast<std::size_t>(tokens * outputs * 2));
    const cuda::DeviceBuffer out_scales(
        machine_.context, static_cast<std::size_t>(formats::bytes_128x4(tokens, outputs / 16)));
    std::vector<Tactic> tactics;
    std::vector<jit::Program> programs;
    for (const Tactic& tactic : dense_moe::tactics(p, machine_.context.info())) {
      if (to_string(tactic).find(o_.filter) == std::string::npos) continue;
      if (static_cast<int>(tactics.size()) == o_.most) break;
      tactics.push_back(tactic);
      programs.push_back(dense_moe::program(tactic.config, machine_.context.info().sm));
    }
    machine_.loader.kernels(programs, usable_cores());
    for (const Tactic& tactic : tactics) {
      const dense_moe::GpuGemm gemm(machine_.context, machine_.loader, p, tactic);
      const cuda::DeviceBuffer scratch(machine_.context, gemm.scratch_bytes());
      cuda::fill(scratch.data(), 0xd5, scratch.bytes(), machine_.stream.get());
      const dense_moe::GpuOperands operands = {.weights = tiles_.data(),
                                               .x = codes.data(),
                                               .x_scales = scales.data(),
                                               .alpha = alphas.as<float>(),
                                               .token_stride = o_.experts,
                                               .expert_stride = 1,
                                               .norm_const = 1,
                                               .out = out.data(),
                                               .out_scales = out_scales.data()};
      const auto enqueue = [&] {
        gemm.enqueue(tokens, operands, scratch.data(), machine_.stream.get());
      };
      enqueue();
      const double error = fc1_ ? -1 : worst_error(p, x, alpha, out);
      report(p, tactic, graph_us(enqueue), error);
    }
  }

  template <class T>
  cuda::DeviceBuffer upload(const std::vector<T>& values) {
    cuda::DeviceBuffer b(machine_.context, values.size() * sizeof(T));
    cuda::copy_to_device(b.data(), values.data(), b.bytes(), machine_.stream.get());
    machine_.stream.synchronize();
    return b;
  }

  template <class Enqueue>
  std::vector<double> graph_us(const Enqueue& enqueue) {
    constexpr int kCalls = 4;
    const cuda::CUstream stream = machine_.stream.get();
    const cuda::Graph graph = cuda::Graph::capture(machine_.context, stream, [&] {
      for (int i = 0; i < kCalls; ++i) enqueue();
    });
    std::vector<double> us;
    for (int i = 0; i < o_.samples + 2; ++i) {
      const cuda::Event start(machine_.context, cuda::Timing::on),
          end(machine_.context, cuda::Timing::on);
      start.record(stream);
      graph.launch(stream);
      end.record(stream);
      const double t = cuda::elapsed_us(start, end) / kCalls;
      if (i >= 2) us.push_back(t);
    }
    std::sort(us.begin(), us.end());
    return us;
  }

  /// Of 64 outputs of FC2, the largest difference to the definition, in units of 2^-8 of the
  /// largest of them: bf16's rounding is at most half of one.
  double worst_error(const GpuProblem& p, const Numbers& x, const std::vector<float>& alpha,
                     const cuda::DeviceBuffer& out) {
    std::vector<std::uint16_t> got(out.bytes() / 2);
    cuda::copy_to_host(got.data(), out.data(), out.bytes(), machine_.stream.get());
    machine_.stream.synchronize();
    double worst = 0, largest = 0;
    for (std::uint64_t i = 0; i < 64; ++i) {
      const std::int64_t t = Random(5).below(i, static_cast<std::uint32_t>(p.tokens)),
                         h = Random(6).below(i, static_cast<std::uint32_t>(p.hidden));
      double sum = 0;
      for (std::int64_t e = 0; e < p.experts; ++e) {
        double dot = 0;
        for (std::int64_t j = 0; j < p.intermediate; ++j)
          dot += x.value((t * p.experts + e) * p.intermediate + j) *
                 weights_.value((e * p.hidden + h) * p.intermediate + j);
        sum += static_cast<double>(alpha[static_cast<std::size_t>(t * p.experts + e)]) * dot;
      }
      largest = std::max(largest, std::abs(sum));
      const double is = static_cast<double>(
          formats::decode_bf16(got[static_cast<std::size_t>(t * p.hidden + h)]));
      worst = std::max(worst, std::isfinite(is) ? std::abs(is - sum) : 1e30);
    }
    return worst / largest * 256;
  }

  void report(const GpuProblem& p, const Tactic& tactic, const std::vector<double>& us,
              double error) {
    const double weights = static_cast<double>(p.experts) * p.rows() * p.width();
    const double bytes = weights * 0.5625, flops = 2 * weights * p.tokens;
    const double median = us[us.size() / 2];
    const double floor = std::max(bytes / ceilings_.read_tbs, flops / ceilings_.mma_tflops) * 1e-6;
    std::printf("%-4s %5d %9.1f %9.1f %9.1f %6.2f %6.0f %7.1f %8.2f  %s\n", o_.phase.c_str(),
                p.tokens, median, us[us.size() / 10], us[us.size() - 1 - us.size() / 10],
                bytes / median * 1e-6, flops / median * 1e-6, floor, error,
                to_string(tactic).c_str());
    if (!file_.is_open()) return;
    nlohmann::json row;
    row["bench"] = "dense";
    row["problem"] = fmt::format("dense_{} t{} h{} i{} e{} nvfp4", o_.phase, p.tokens, p.hidden,
                                 p.intermediate, p.experts);
    row["m"] = p.tokens, row["variant"] = to_string(tactic), row["median_us"] = median;
    row["p10_us"] = us[us.size() / 10], row["p90_us"] = us[us.size() - 1 - us.size() / 10];
    row["samples"] = us.size(), row["bytes"] = bytes, row["flops"] = flops;
    row["floor_us"] = floor, row["efficiency"] = floor / median;
    row["ceiling_read_tbs"] = ceilings_.read_tbs, row["ceiling_mma_tflops"] = ceilings_.mma_tflops;
    row["cold_l2"] = true, row["graph"] = true;
    if (error >= 0) row["error_bf16_steps"] = error;
    row["gpu"] = machine_.context.info().name, row["driver"] = driver_release();
    row["cuda"] = jit::nvrtc().version, row["commit"] = o_.commit;
    row["date"] = fmt::format("{:%F}", fmt::gmtime(std::time(nullptr)));
    file_ << row.dump() << std::endl;
  }

  const Options& o_;
  bool fc1_;
  Machine machine_;
  Ceilings ceilings_ = measure_ceilings(machine_);
  Numbers weights_;
  cuda::DeviceBuffer tiles_;
  std::ofstream file_;
};

}  // namespace
}  // namespace switchyard::bench

int main(int argc, char** argv) {
  switchyard::bench::Options o;
  CLI::App app{"Times the dense GEMMs on a GPU."};
  app.add_option("--phase", o.phase, "Which of the two")->check(CLI::IsMember({"fc1", "fc2"}));
  app.add_option("--tokens,-m", o.tokens, "Batch sizes")->delimiter(',');
  app.add_option("--hidden", o.hidden);
  app.add_option("--intermediate", o.intermediate);
  app.add_option("--experts", o.experts);
  app.add_option("--tactic", o.filter, "Only tactics whose names have this in them");
  app.add_option("--most", o.most, "Tactics a batch size, best guess first; -1: all");
  app.add_option("--samples", o.samples, "Graph launches of 4 calls each");
  app.add_option("--out", o.out, "Append JSON lines to a file in this folder");
  app.add_option("--commit", o.commit, "For the rows");
  CLI11_PARSE(app, argc, argv);
  try {
    switchyard::bench::Bench(o).run();
  } catch (const std::exception& error) {
    std::cerr << "switchyard_dense_bench: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
