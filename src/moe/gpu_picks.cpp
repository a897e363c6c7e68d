#include "moe/gpu_picks.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <mutex>

#include "base/digest.h"
#include "base/env.h"
#include "base/log.h"
#include "cuda/driver.h"
#include "jit/nvrtc.h"
#include "switchyard/error.h"
#include "tune/buckets.h"

namespace switchyard::moe {
namespace {

/// What a plan's launches are compiled from.
constexpr const char* kKernels[] = {"ops/route/kernel.cuh", "ops/fused_moe/kernel_sm90.cuh",
                                    "ops/grouped_gemm/kernel_sm90.cuh", "ops/finalize/kernel.cuh"};

/// A text without comments, line ends and repeated blanks.
std::string code_of(std::string_view text) {
  std::string code;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    line = line.substr(0, line.find("//"));
    for (const char c : line)
      if (c != ' ' || (!code.empty() && code.back() != ' ')) code += c;
    if (!code.empty() && code.back() != ' ') code += ' ';
  }
  return code;
}

std::string kernels_digest() {
  const jit::Sources sources = jit::Sources::library();
  std::vector<std::string> texts;
  for (const char* kernel : kKernels)
    for (const jit::SourceFile& file : sources.closure(kernel).files) {
      texts.push_back(file.path);
      texts.push_back(code_of(file.text));
    }
  return to_string(digest(std::vector<std::string_view>(texts.begin(), texts.end())));
}

/// One table for all plans of a process, until the user's file changes.
struct Shelf {
  std::mutex mutex;
  std::string device;
  std::filesystem::path file;
  std::filesystem::file_time_type written;
  std::shared_ptr<const tune::Table> table;
};

std::shared_ptr<const tune::Table> shared_picks(const cuda::DeviceInfo& device) {
  static Shelf shelf;
  const std::filesystem::path file = picks_file();
  std::error_code absent;
  const auto written = std::filesystem::last_write_time(file, absent);
  const std::lock_guard lock(shelf.mutex);
  if (!shelf.table || shelf.device != to_string(device) || shelf.file != file ||
      shelf.written != written) {
    shelf.table = std::make_shared<const tune::Table>(picks(device));
    shelf.device = to_string(device), shelf.file = file, shelf.written = written;
  }
  return shelf.table;
}

}  // namespace

tune::Place place_of(const cuda::DeviceInfo& device) {
  tune::Place place{
      .device = fmt::format("{}, sm_{}, {} SMs", device.name, device.sm, device.multiprocessors),
      .kernels = kernels_digest(),
      .versions = {{"nvrtc", jit::nvrtc().version}}};
  if (!cuda::driver_declines()) place.versions["driver"] = cuda::driver_release();
  return place;
}

std::optional<std::string> pick_key(const GpuShape& shape, int tokens) {
  MoeProblem problem;
  problem.tokens = tokens;
  problem.config = shape.config;
  problem.bias = shape.bias;
  problem.format = weight_format(shape.weights == Weights::nvfp4   ? "nvfp4"
                                 : shape.weights == Weights::mxfp4 ? "mxfp4"
                                 : shape.half == Half::fp16        ? "fp16"
                                                                   : "bf16");
  if (shape.dense) return std::nullopt;  // not tuned
  if (shape.dense || shape.locals == 0 || shape.config.experts % shape.locals != 0)
    return std::nullopt;
  problem.ep_ranks = shape.config.experts / shape.locals;
  return tune::key_of(std::move(problem));
}

std::filesystem::path picks_file() {
  const std::filesystem::path folder = cache_directory();
  return folder.empty() ? folder : folder / "tuning.jsonl";
}

tune::Table picks(const cuda::DeviceInfo& device) {
  tune::Table table(place_of(device), log_info);
  for (const jit::EmbeddedSource& shipped : shipped_picks())
    table.add_text(shipped.text, shipped.path, tune::Table::Source::shipped);
  const std::filesystem::path file = picks_file();
  try {
    if (!file.empty()) table.add_file(file);
  } catch (const Error& error) {
    log_info(error.what());
  }
  return table;
}

std::optional<GpuExperts> picked(const tune::Table& table, const GpuShape& shape, int tokens,
                                 const cuda::DeviceInfo& device) {
  for (const int bucket : {tune::bucket_of(tokens), tune::bucket_above(tokens)}) {
    const std::optional<std::string> key = pick_key(shape, bucket);
    const std::optional<tune::Table::Found> found = key ? table.find(*key) : std::nullopt;
    if (!found || found->stale) return std::nullopt;
    std::vector<std::string> declined;
    const std::vector<GpuExperts> all = gpu_candidates(shape, tokens, device, declined);
    const auto same = std::find_if(all.begin(), all.end(), [&](const GpuExperts& experts) {
      return tactic(experts) == found->config;
    });
    if (same != all.end()) return *same;
  }
  return std::nullopt;
}

GpuPlan tuned_plan(const GpuShape& shape, int tokens, const cuda::DeviceInfo& device) {
  const std::optional<GpuExperts> experts = picked(*shared_picks(device), shape, tokens, device);
  GpuPlan plan = make_gpu_plan(shape, tokens, device, experts);
  if (experts)
    plan.declined.push_back(
        "other variants: they were slower when these were measured on such a "
        "machine (switchyard tune)");
  return plan;
}

}  // namespace switchyard::moe
