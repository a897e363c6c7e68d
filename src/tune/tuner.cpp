#include "tune/tuner.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace switchyard::tune {
namespace {

constexpr int kLeastRounds = 5;  // until then a median may be two bad samples
constexpr double kLimit = 0.04;  // how far behind the least worst regret a config may be
constexpr int kEarlyRounds = 2;  // until then a config's only sample may be a bad one
constexpr double kEarlyLimit = 0.1;

/// Counts samples for Options::progress.
class Meter {
 public:
  Meter(std::int64_t total, const Options& options) : total_(total), options_(options) {}

  void advance(std::int64_t samples) {
    done_ += samples;
    if (!options_.progress) return;
    const std::chrono::duration<double> took = Clock::now() - start_;
    const double each = done_ > 0 ? took.count() / static_cast<double>(done_) : 0;
    options_.progress({.done = done_,
                       .total = total_,
                       .seconds_left = each * static_cast<double>(total_ - done_)});
  }

 private:
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start_ = Clock::now();
  std::int64_t done_ = 0;
  const std::int64_t total_;
  const Options& options_;
};

std::int64_t samples_of(const Task& task, const Options& options) {
  return static_cast<std::int64_t>(task.configs.size() * kLoads.size()) * options.rounds;
}

/// One task's configs, as they are measured.
class Contest {
 public:
  Contest(const Task& task, Sampler& sampler, const Options& options, Meter& meter)
      : task_(task), sampler_(sampler), options_(options), meter_(meter) {
    for (const std::string& config : task.configs)
      outcome_.configs.push_back({.config = config, .costs = {}, .failure = {}});
    samples_.resize(task.configs.size());
    for (std::size_t i = 0; i < task.configs.size(); ++i) running_.push_back(i);
  }

  Outcome play() {
    const std::int64_t a_round = static_cast<std::int64_t>(task_.configs.size() * kLoads.size());
    int round = 0;
    for (; round < options_.rounds && !decided(round); ++round) {
      play_round(round);
      if (outcome_.stopped) return std::move(outcome_);
      settle(round + 1);
      meter_.advance(a_round);
    }
    meter_.advance((options_.rounds - round) * a_round);
    if (!running_.empty()) outcome_.pick = running_[pick(costs(), least_medians(all_costs()))];
    return std::move(outcome_);
  }

 private:
  bool decided(int rounds) const {
    return running_.empty() || (running_.size() == 1 && rounds >= kLeastRounds);
  }

  /// Back and forth by turns: under a steady drift every config has the same mean time.
  void play_round(int round) {
    for (std::size_t load = 0; load < kLoads.size(); ++load) {
      const std::vector<std::size_t> order = running_;
      for (std::size_t i = 0; i < order.size(); ++i) {
        outcome_.stopped = options_.stop && options_.stop();
        if (outcome_.stopped) return;
        sample(order[round % 2 == 0 ? i : order.size() - 1 - i], load);
      }
    }
  }

  void sample(std::size_t index, std::size_t load) {
    Measured& measured = outcome_.configs[index];
    try {
      const double us = sampler_.sample_us(
          {.problem = task_.problem, .config = measured.config, .load = kLoads[load]});
      if (!std::isfinite(us) || us <= 0)
        throw DeviceError(fmt::format("expected a time above 0, got {} us", us));
      samples_[index][load].push_back(us);
    } catch (const std::exception& error) {
      measured.failure = *error.what() != '\0' ? error.what() : "it gave no reason";
      take_back();
      if (options_.report)
        options_.report(fmt::format("[tune] {}: {} is left out: {}", task_.problem, measured.config,
                                    measured.failure));
    }
  }

  /// Who failed may be who others were dropped for: all that did not fail are in again.
  void take_back() {
    running_.clear();
    for (std::size_t i = 0; i < outcome_.configs.size(); ++i)
      if (outcome_.configs[i].failure.empty()) running_.push_back(i);
  }

  /// Takes the costs after a round, and drops who is far behind.
  void settle(int rounds) {
    for (const std::size_t index : running_) {
      Measured& measured = outcome_.configs[index];
      measured.rounds = static_cast<int>(samples_[index].back().size());
      for (std::size_t load = 0; load < kLoads.size(); ++load)
        measured.costs[load] = cost_of(samples_[index][load]);
    }
    if (!options_.drop || rounds < kEarlyRounds) return;
    if (rounds < kLeastRounds)
      drop(extremes(&Extremes::least), extremes(&Extremes::most), extremes(&Extremes::most),
           kEarlyLimit);
    else
      drop(costs(), costs(), all_costs(), kLimit);
  }

  /// Drops whose worst regret is by `hopes` more than `limit` behind the least of `fears`; not the
  /// first config, the cost model's choice, which tables compare with the pick.
  void drop(const std::vector<Costs>& hopes, const std::vector<Costs>& fears,
            const std::vector<Costs>& all, double limit) {
    const Medians best = least_medians(all);
    double least = std::numeric_limits<double>::infinity();
    for (const Costs& costs : fears) least = std::min(least, worst_regret(costs, best));
    std::vector<std::size_t> left;
    for (std::size_t i = 0; i < running_.size(); ++i)
      if (running_[i] == 0 || worst_regret(hopes[i], best) <= least + limit)
        left.push_back(running_[i]);
    running_ = std::move(left);
  }

  /// Of a config's samples.
  struct Extremes {
    static double least(const std::vector<double>& us) { return *std::ranges::min_element(us); }
    static double most(const std::vector<double>& us) { return *std::ranges::max_element(us); }
  };
  std::vector<Costs> extremes(double (*which)(const std::vector<double>&)) const {
    std::vector<Costs> all(running_.size());
    for (std::size_t i = 0; i < running_.size(); ++i)
      for (std::size_t load = 0; load < kLoads.size(); ++load)
        all[i][load].median_us = which(samples_[running_[i]][load]);
    return all;
  }

  std::vector<Costs> costs() const {
    std::vector<Costs> all;
    for (const std::size_t index : running_) all.push_back(outcome_.configs[index].costs);
    return all;
  }
  /// Of those that were dropped, too: what they took is possible.
  std::vector<Costs> all_costs() const {
    std::vector<Costs> all;
    for (const Measured& measured : outcome_.configs)
      if (measured.failure.empty() && measured.rounds > 0) all.push_back(measured.costs);
    return all;
  }

  const Task& task_;
  Sampler& sampler_;
  const Options& options_;
  Meter& meter_;
  std::vector<std::array<std::vector<double>, kLoads.size()>> samples_;
  std::vector<std::size_t> running_;  ///< neither failed nor dropped; in the task's order
  Outcome outcome_;
};

Outcome play(const Task& task, Sampler& sampler, const Options& options, Meter& meter) {
  require(options.rounds >= kLeastRounds, "[tune] rounds: expected at least {}, got {}.",
          kLeastRounds, options.rounds);
  return Contest(task, sampler, options, meter).play();
}

}  // namespace

bool knows(const Table& table, const Task& task) {
  const std::optional<Table::Found> found = table.find(task.problem);
  return found && !found->remeasure &&
         std::find(task.configs.begin(), task.configs.end(), found->config) != task.configs.end();
}

Outcome tune(const Task& task, Sampler& sampler, const Options& options) {
  Meter meter(samples_of(task, options), options);
  return play(task, sampler, options, meter);
}

Summary tune(const std::vector<Task>& tasks, Sampler& sampler, const Book& book,
             const Options& options) {
  Summary summary;
  std::vector<const Task*> open;
  std::int64_t samples = 0;
  for (const Task& task : tasks) {
    if (knows(book.table, task)) {
      ++summary.known;
      continue;
    }
    open.push_back(&task);
    samples += samples_of(task, options);
  }
  Meter meter(samples, options);
  for (const Task* task : open) {
    if (book.begin) book.begin(*task);
    const Outcome outcome = play(*task, sampler, options, meter);
    if (book.end) book.end(*task, outcome);
    summary.stopped = outcome.stopped;
    if (summary.stopped) break;
    if (!outcome.pick) {
      ++summary.failed;
      continue;
    }
    const Measured& best = outcome.configs[*outcome.pick];
    Row row{.place = book.table.place(),
            .problem = task->problem,
            .config = best.config,
            .costs = best.costs};
    append(book.file, row);
    book.table.add(std::move(row));
    ++summary.tuned;
  }
  return summary;
}

}  // namespace switchyard::tune
