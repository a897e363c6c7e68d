#include "switchyard/kernels.h"

#include <algorithm>
#include <charconv>
#include <mutex>

#include "base/check.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "cuda/driver.h"
#include "jit/cache.h"
#include "moe/gpu_programs.h"
#include "moe/plan.h"

namespace switchyard::kernels {
namespace {

/// "sm_90a" -> 90
int sm_of(std::string_view arch) {
  int sm = 0;
  if (arch.starts_with("sm_")) std::from_chars(arch.data() + 3, arch.data() + arch.size(), sm);
  require(sm > 0 && jit::architecture(sm) == arch,
          "[cache] arch: expected a GPU architecture such as sm_90a, got {}.", arch);
  return sm;
}

std::vector<jit::Program> distinct_programs(std::span<const MoeProblem> problems, int sm) {
  std::vector<jit::Program> all;
  for (const MoeProblem& problem : problems)
    for (jit::Program& program : moe::gpu_programs(problem, sm))
      if (std::find(all.begin(), all.end(), program) == all.end())
        all.push_back(std::move(program));
  return all;
}

/// The last thing a cache had to say, from any thread.
class Complaint {
 public:
  jit::Log log() {
    return [this](std::string_view line) {
      log_info(line);
      const std::lock_guard lock(mutex_);
      last_ = line;
    };
  }
  std::string last() const {
    const std::lock_guard lock(mutex_);
    return last_;
  }

 private:
  mutable std::mutex mutex_;
  std::string last_;
};

}  // namespace

std::filesystem::path cache_directory() {
  std::filesystem::path directory = jit::cache_options_from_env().directory;
  require(!directory.empty(),
          "[cache] folder: expected SWITCHYARD_CACHE_DIR, XDG_CACHE_HOME or HOME in the "
          "environment, got none. Set SWITCHYARD_CACHE_DIR.");
  return directory;
}

std::vector<Entry> list() {
  std::vector<Entry> entries;
  for (const jit::StoredKernel& kernel : jit::Store(cache_directory(), log_info).list())
    entries.push_back({.instance = kernel.program.instance,
                       .arch = kernel.program.arch,
                       .compiler = kernel.compiler,
                       .bytes = kernel.bytes,
                       .age = kernel.age,
                       .path = kernel.path});
  return entries;
}

std::size_t clear() {
  return jit::Store(cache_directory(), log_info).clear();
}

std::optional<std::string> declines(const MoeProblem& problem, std::string_view arch) {
  return moe::gpu_declines(problem, sm_of(arch));
}

Explained explain(const MoeProblem& problem, int ordinal) {
  moe::check_max_tokens(problem.tokens, problem.config.top_k);
  const bool absent = cuda::driver_declines().has_value();
  const cuda::DeviceInfo device = absent ? moe::h200() : cuda::Context::open(ordinal).info();
  const PlanState plan = moe::plan_state(moe::plan_problem(problem, device), problem.tokens);
  const std::string name = absent ? to_string(device) + " (there is no GPU here)"
                                  : fmt::format("cuda:{}, {}", ordinal, to_string(device));
  return {.workspace_bytes = plan.workspace_bytes, .text = moe::explain(name, plan)};
}

Warmed warm(std::span<const MoeProblem> problems, const WarmOptions& options) {
  const std::vector<jit::Program> programs = distinct_programs(problems, sm_of(options.arch));
  Complaint complaint;
  jit::CacheOptions settings = jit::cache_options_from_env();
  settings.directory = cache_directory();
  settings.log = complaint.log();
  jit::Cache cache(settings);
  settings.compile = jit::Compile::off;
  jit::Cache carried(settings);  // what the other machine will have

  const auto count = static_cast<std::int64_t>(programs.size());
  ThreadPool pool(options.threads > 0 ? options.threads : usable_cores());
  std::mutex mutex;
  std::int64_t done = 0;
  pool.parallel_for(count, [&](std::int64_t i, int) {
    const jit::Program& program = programs[static_cast<std::size_t>(i)];
    cache.get(program);
    try {
      carried.get(program);
    } catch (const Unsupported&) {
      throw DeviceError(complaint.last());
    }
    const std::lock_guard lock(mutex);
    ++done;
    if (options.progress) options.progress(done, count);
  });

  return {.compiled = cache.stats().compiled, .found = cache.stats().disk};
}

}  // namespace switchyard::kernels
