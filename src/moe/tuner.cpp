#include "switchyard/tuner.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <thread>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "moe/gpu_picks.h"
#include "moe/gpu_programs.h"
#include "moe/gpu_sampler.h"
#include "moe/gpu_tuner.h"
#include "tune/buckets.h"
#include "tune/tuner.h"
#include "tune/worker.h"

namespace switchyard::tuner {
namespace {

using nlohmann::json;

/// What a variant may take that the cost model expects to be so many times slower than its best.
constexpr double kPromising = 2;
constexpr std::chrono::seconds kLimit{60};  // of a sample, with a layer's weights and a compilation

/// A problem's layer and batch.
struct Batch {
  moe::GpuShape shape;
  int tokens;
  tune::Task task;
  std::vector<moe::GpuExperts> candidates;  ///< as in the task
};

Batch batch_of(const MoeProblem& problem, const cuda::DeviceInfo& device, bool exhaustive) {
  Batch batch{.shape = moe::gpu_shape(problem),
              .tokens = tune::bucket_of(problem.tokens),
              .task = {.problem = tune::key_of(problem), .configs = {}},
              .candidates = {}};
  if (batch.shape.dense)
    throw Unsupported(
        "[tune] act=nvfp4: dense GEMMs have tactics of their own, which are chosen by the cost "
        "model.");
  std::vector<std::string> declined;
  batch.candidates = moe::gpu_candidates(batch.shape, batch.tokens, device, declined);
  const auto cost = [&](const moe::GpuExperts& experts) {
    return moe::expected_cost(batch.shape, batch.tokens, device, experts);
  };
  if (!exhaustive && !batch.candidates.empty()) {
    const double enough = kPromising * cost(batch.candidates.front());
    std::erase_if(batch.candidates, [&](const auto& experts) { return cost(experts) > enough; });
  }
  for (const moe::GpuExperts& experts : batch.candidates)
    batch.task.configs.push_back(tactic(experts));
  return batch;
}

/// Compiles kernels, in the batches' order, into the cache on disk while others are measured.
class Ahead {
 public:
  Ahead(const std::vector<Batch>& batches, const cuda::DeviceInfo& device, int threads)
      : batches_(batches), device_(device), threads_(threads) {
    thread_ = std::thread([this] { run(); });
  }
  ~Ahead() {
    stop_ = true;
    thread_.join();
  }
  Ahead(const Ahead&) = delete;
  Ahead& operator=(const Ahead&) = delete;

  void wait_for(std::string_view key) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_ || done_.contains(key); });
  }

 private:
  /// All batches of a layer at once: few of them have enough new kernels for all threads.
  void run() {
    jit::CacheOptions options = jit::cache_options_from_env();
    jit::Cache cache(options);
    ThreadPool pool(threads_);
    for (auto first = batches_.begin(); first != batches_.end() && !stop_;) {
      const auto last = std::find_if(first, batches_.end(), [&](const Batch& batch) {
        return moe::pick_key(batch.shape, 1) != moe::pick_key(first->shape, 1);
      });
      if (!options.directory.empty()) compile(first, last, cache, pool);
      const std::lock_guard lock(mutex_);
      for (; first != last; ++first) done_.insert(first->task.problem);
      changed_.notify_all();
    }
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }

  void compile(std::vector<Batch>::const_iterator first, std::vector<Batch>::const_iterator last,
               jit::Cache& cache, ThreadPool& pool) {
    std::map<std::string, jit::Program> programs;
    for (; first != last; ++first)
      for (const moe::GpuExperts& experts : first->candidates)
        for (jit::Program& program : moe::programs(
                 make_gpu_plan(first->shape, first->tokens, device_, experts), device_.sm))
          programs.emplace(program.instance, std::move(program));
    std::vector<const jit::Program*> all;
    for (const auto& [instance, program] : programs) all.push_back(&program);
    pool.parallel_for(static_cast<std::int64_t>(all.size()), [&](std::int64_t i, int) {
      if (stop_) return;
      try {
        cache.get(*all[static_cast<std::size_t>(i)]);
      } catch (const Error&) {  // whoever measures it will say so
      }
    });
  }

  const std::vector<Batch>& batches_;
  const cuda::DeviceInfo& device_;
  const int threads_;
  std::atomic<bool> stop_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string, std::less<>> done_;
  bool ended_ = false;
  std::thread thread_;
};

json details_of(const tune::Task& task, const tune::Outcome& outcome) {
  json line = {{"problem", task.problem}, {"configs", json::array()}};
  if (outcome.pick) line["pick"] = outcome.configs[*outcome.pick].config;
  for (const tune::Measured& measured : outcome.configs) {
    json one = {{"config", measured.config}, {"rounds", measured.rounds}};
    if (!measured.failure.empty()) one["failure"] = measured.failure;
    for (std::size_t load = 0; measured.failure.empty() && load < tune::kLoads.size(); ++load)
      one["median_us"][std::string(tune::kLoads[load])] = measured.costs[load].median_us;
    line["configs"].push_back(std::move(one));
  }
  return line;
}

tune::Options inner(const Options& options) {
  tune::Options to;
  to.rounds = options.rounds;
  to.drop = !options.exhaustive;
  to.report = options.report;
  to.stop = options.stop;
  if (options.progress)
    to.progress = [&options](const tune::Progress& p) {
      options.progress({.done = p.done, .total = p.total, .seconds_left = p.seconds_left});
    };
  return to;
}

}  // namespace
}  // namespace switchyard::tuner

namespace switchyard::moe {

tuner::Summary tune_on(const cuda::DeviceInfo& device, tune::Sampler& sampler,
                       std::span<const MoeProblem> problems, const tuner::Options& options) {
  using namespace tuner;
  const std::filesystem::path out = options.out.empty() ? file() : options.out;
  tune::Table table(place_of(device), options.report ? options.report : log_info);
  if (!options.again) table = picks(device);
  for (const std::filesystem::path& from : options.from) table.add_file(from);
  table.add_file(out);

  std::vector<Batch> batches;
  std::set<std::string> keys;
  int known = 0;
  for (const MoeProblem& problem : problems) {
    Batch batch = batch_of(problem, device, options.exhaustive);
    if (!keys.insert(batch.task.problem).second) continue;
    if (knows(table, batch.task))
      ++known;
    else
      batches.push_back(std::move(batch));
  }
  std::vector<tune::Task> tasks;
  for (const Batch& batch : batches) tasks.push_back(batch.task);

  const int threads = options.threads > 0 ? options.threads : std::max(1, usable_cores() - 2);
  Ahead ahead(batches, device, threads);
  std::ofstream details;
  if (!options.details.empty()) details.open(options.details, std::ios::app);
  std::chrono::steady_clock::time_point start;
  const auto begin = [&](const tune::Task& task) {
    ahead.wait_for(task.problem);
    start = std::chrono::steady_clock::now();
  };
  const auto end = [&](const tune::Task& task, const tune::Outcome& outcome) {
    if (!details.is_open()) return;
    json line = details_of(task, outcome);
    line["seconds"] =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    details << line.dump() << std::endl;
  };
  const tune::Summary summary = tune::tune(
      tasks, sampler, {.table = table, .file = out, .begin = begin, .end = end}, inner(options));
  return {.tuned = summary.tuned,
          .known = known + summary.known,
          .failed = summary.failed,
          .stopped = summary.stopped};
}

}  // namespace switchyard::moe

namespace switchyard::tuner {

std::filesystem::path file() {
  std::filesystem::path file = moe::picks_file();
  require(!file.empty(),
          "[tune] file: expected SWITCHYARD_CACHE_DIR, XDG_CACHE_HOME or HOME in the environment, "
          "got none. Name a file with --out, or set SWITCHYARD_CACHE_DIR.");
  return file;
}

std::vector<int> buckets(int max_tokens) {
  return tune::buckets(max_tokens);
}

Summary tune(std::span<const MoeProblem> problems, const Options& options) {
  const cuda::DeviceInfo device = cuda::Context::open(options.device).info();
  if (options.worker.empty())
    return moe::tune_on(device, *moe::gpu_sampler(options.device), problems, options);
  tune::Worker worker(options.worker, kLimit);
  return moe::tune_on(device, worker, problems, options);
}

void serve(int device) {
  tune::serve(*moe::gpu_sampler(device));
}

int merge(std::span<const std::filesystem::path> from, const std::filesystem::path& out,
          const std::function<void(std::string_view sentence)>& report) {
  const std::string kernels = moe::place_of(moe::h200()).kernels;
  std::map<std::string, tune::Table> tables;  // by place
  int stale = 0;
  for (const std::filesystem::path& path : from) {
    std::istringstream lines(read_text(path, std::int64_t{1} << 28));
    int number = 0;
    for (std::string line; std::getline(lines, line);) {
      ++number;
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      try {
        tune::Row row = tune::parse_row(line);
        if (row.place.kernels != kernels) {
          ++stale;
          continue;
        }
        const std::string name = row.place.device + json(row.place.versions).dump();
        tune::Table& table = tables.try_emplace(name, row.place, log_info).first->second;
        table.add(std::move(row));
      } catch (const Error& error) {
        if (report)
          report(fmt::format("[tune] {}:{} is skipped: {}.", path.string(), number, error.what()));
      }
    }
  }
  if (stale > 0 && report)
    report(fmt::format("[tune] {} rows of other kernels than this library's are left out", stale));
  std::string text;
  int count = 0;
  for (const auto& [name, table] : tables)
    for (const std::string& key : table.keys()) {
      tune::Table::Found found = *table.find(key);
      text += tune::to_line({.place = table.place(),
                             .problem = key,
                             .config = std::move(found.config),
                             .costs = found.costs}) +
              "\n";
      ++count;
    }
  publish_text(out, text);
  return count;
}

}  // namespace switchyard::tuner
