#include "moe/gpu_programs.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>

#include "base/thread_pool.h"
#include "jit/cache.h"
#include "jit/nvrtc.h"
#include "ops/dense_moe/plan.h"
#include "switchyard/error.h"
#include "switchyard/kernels.h"

namespace switchyard::moe {
namespace {

constexpr int kBatches[] = {1, 8, 16, 32, 64, 128, 512, 4096, 32768};

/// The distinct programs of all presets at every batch size. Layers of other formats count as bf16
/// too: their routing and activation have kernels already.
std::vector<jit::Program> preset_programs() {
  std::vector<jit::Program> all;
  for (const std::string& name : preset_names())
    for (const int tokens : kBatches) {
      MoeProblem problem = preset(name, tokens);
      for (const WeightFormat& format : {problem.format, weight_format("bf16")}) {
        problem.format = format;
        if (gpu_declines(problem, 90)) continue;
        for (jit::Program& program : gpu_programs(problem, 90))
          if (std::find(all.begin(), all.end(), program) == all.end())
            all.push_back(std::move(program));
      }
    }
  return all;
}

double thread_cpu_seconds() {
  timespec now = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// NVRTC, and the CPU time that each instance took.
struct TimedCompiler {
  std::mutex mutex;
  std::map<std::string, double> seconds;

  jit::Compiler compiler() {
    const jit::Compiler nvrtc = jit::nvrtc_compiler();
    return {.version = nvrtc.version,
            .compile = [this, nvrtc](const jit::Program& program, const jit::Closure& closure) {
              const double start = thread_cpu_seconds();
              jit::Binary binary = nvrtc.compile(program, closure);
              const double took = thread_cpu_seconds() - start;
              const std::lock_guard lock(mutex);
              seconds[program.instance] = took;
              return binary;
            }};
  }
};

TEST(GpuPrograms, OfEveryPresetCompileWithoutLocalMemory) {
  if (jit::nvrtc().declines) GTEST_SKIP() << *jit::nvrtc().declines;
  constexpr double kAim = 0.5;   // seconds of one core for a kernel
  constexpr double kBound = 15;  // what fails: shared machines are slow at times
  const std::vector<jit::Program> programs = preset_programs();
  ASSERT_GT(programs.size(), 10U);
  TimedCompiler timed;
  jit::CacheOptions options;
  // In the build folder: the next run compiles what has changed.
  options.directory = SWITCHYARD_BINARY_DIR "/kernels";
  options.compiler = timed.compiler();
  const auto binaries = jit::Cache(options).get(programs, usable_cores());

  for (std::size_t i = 0; i < programs.size(); ++i) {
    const std::string& instance = programs[i].instance;
    // Four groups of consumers have so few registers that one or two wait in memory while a tile's
    // products are made.
    // The dense GEMMs' wait between segments.
    const bool grouped = instance.find("grouped_gemm") != std::string::npos;
    const int most = instance.find("dense_moe") != std::string::npos ? 128 : grouped ? 8 : 0;
    EXPECT_LE(binaries[i]->resources.spill_bytes, grouped ? 24 : most) << instance;  // both ways
    EXPECT_LE(binaries[i]->resources.stack_bytes, most) << instance;
    EXPECT_GT(binaries[i]->resources.registers, 0) << instance << ": ptxas said nothing";
  }
  double sum = 0;
  std::pair<double, std::string> slowest;
  for (const auto& [instance, seconds] : timed.seconds) {
    EXPECT_LE(seconds, kBound) << instance;
    sum += seconds;
    slowest = std::max(slowest, {seconds, instance});
  }
  RecordProperty("kernels", static_cast<int>(programs.size()));
  RecordProperty("slowest_s", std::to_string(slowest.first));
  std::printf(
      "%zu kernels; %zu compiled in %.1f s of one core, the slowest in %.2f (aim %.1f): %s\n",
      programs.size(), timed.seconds.size(), sum, slowest.first, kAim, slowest.second.c_str());
}

/// The dense GEMMs' every tactic. Where four warpgroups share the registers, some of what a CTA
/// needs before its first product, or a segment beside its products, waits in memory: in their SASS
/// nothing does between the products of a stage or two.
TEST(GpuPrograms, OfEveryDenseTacticCompile) {
  if (jit::nvrtc().declines) GTEST_SKIP() << *jit::nvrtc().declines;
  std::vector<jit::Program> programs = {dense_moe::alpha_program(90)};
  for (const auto out : {dense_moe::Out::fp4, dense_moe::Out::bf16})
    for (const int tokens : {8, 128}) {
      const dense_moe::GpuProblem p = {
          .phase = out == dense_moe::Out::fp4 ? dense_moe::Phase::fc1 : dense_moe::Phase::fc2,
          .tokens = tokens,
          .experts = 256,
          .hidden = 7168,
          .intermediate = 256,
          .out = out,
          .post = out == dense_moe::Out::fp4};
      for (const dense_moe::Tactic& t : dense_moe::tactics(p, h200())) {
        jit::Program program = dense_moe::program(t.config, 90);
        if (std::find(programs.begin(), programs.end(), program) == programs.end())
          programs.push_back(std::move(program));
      }
    }
  jit::CacheOptions options;
  options.directory = SWITCHYARD_BINARY_DIR "/kernels";
  const auto binaries = jit::Cache(options).get(programs, usable_cores());
  for (std::size_t i = 0; i < programs.size(); ++i) {
    EXPECT_LE(binaries[i]->resources.spill_bytes, 144) << programs[i].instance;
    EXPECT_LE(binaries[i]->resources.stack_bytes, 64) << programs[i].instance;
    EXPECT_EQ(binaries[i]->warnings.find("serialized"), std::string::npos)
        << programs[i].instance << binaries[i]->warnings;
  }
}

TEST(GpuPlanWithoutAGpu, CountsASharedExpertOfFourBitsInPartsOfI) {
  for (const char* format : {"nvfp4", "mxfp4"})
    for (const int tokens : {1, 600}) {
      const MoeProblem problem = parse_problem(
          fmt::format("moe t{} h128 i64 e16 k4 {} act=bf16 swiglu softmax_renormalize shared=160",
                      tokens, format));
      EXPECT_EQ(gpu_declines(problem, 90), std::nullopt);
      std::int64_t flops = 0;
      for (const Step& step : plan_problem(problem, h200()).steps) flops += step.flops;
      EXPECT_EQ(flops, 2LL * tokens * (4 + 3) * 3 * 128 * 64);
    }
}

TEST(GpuPlanWithoutAGpu, CountsWorkAndExpectsTheTimeOfAnH200) {
  for (const int tokens : {1, 512}) {
    MoeProblem problem = preset("deepseek-v3-tp8", tokens);
    problem.format = weight_format("bf16"), problem.config.act = ActivationFormat::bf16;
    const GpuPlan plan = plan_problem(problem, h200());
    std::int64_t bytes = 0, flops = 0;
    double us = 0;
    for (const Step& step : plan.steps) {
      bytes += step.bytes, flops += step.flops, us += step.expected_us;
      EXPECT_EQ(step.out.offset % 256, 0);
      EXPECT_LE(step.out.offset + step.out.bytes, static_cast<std::int64_t>(plan.workspace_bytes));
    }
    EXPECT_EQ(flops, 2LL * tokens * 8 * 3 * 7168 * 256);
    const double reached = 256 * (1 - std::pow(1 - 8.0 / 256, tokens));
    const double rows = plan.experts.finalizes() ? 2.0 * tokens * 8 * 7168 * 2 : 0;
    EXPECT_NEAR(static_cast<double>(bytes), reached * 3 * 7168 * 256 * 2 + rows, 0.02 * 3e9);
    // Bytes at 4.6 TB/s, and a few microseconds a launch.
    EXPECT_GT(us, static_cast<double>(bytes) / 4.7e6);
    EXPECT_LT(us, static_cast<double>(bytes) / 4.5e6 + 20);
  }
}

TEST(GpuPlanWithoutAGpu, IsExplained) {
  const MoeProblem problem = preset("qwen3-30b-a3b", 32);
  const kernels::Explained explained = kernels::explain(problem);
  EXPECT_EQ(explained.text.find("plan for at most 32 tokens on "), 0U);
  for (const char* piece : {"route", " us ", "expected ", "declined", "slower"})
    EXPECT_NE(explained.text.find(piece), std::string::npos) << piece << explained.text;
  EXPECT_GT(explained.workspace_bytes, 0U);
  MoeProblem integers = preset("gpt-oss-20b", 1);
  integers.format = weight_format("int4");
  EXPECT_THROW(kernels::explain(integers), Unsupported);
}

TEST(GpuPrograms, AreDistinctAndAlwaysTheSame) {
  const MoeProblem problem = preset("qwen3-30b-a3b", 32);
  const std::vector<jit::Program> programs = gpu_programs(problem, 90);
  EXPECT_EQ(programs, gpu_programs(problem, 90));
  for (auto i = programs.begin(); i != programs.end(); ++i) {
    EXPECT_EQ(std::find(std::next(i), programs.end(), *i), programs.end()) << i->instance;
    EXPECT_EQ(i->arch, "sm_90a");
  }
}

}  // namespace
}  // namespace switchyard::moe
