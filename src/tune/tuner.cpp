#include "tune/tuner.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace switchyard::tune {
namespace {

/// How many times what it is compared with a config may take.
struct Limits {
  double regret;  ///< of the least worst regret
  double first;   ///< of what the task's first config takes, under any load
};
constexpr int kLeastRounds = 5;  // until then a median may be two bad samples
constexpr Limits kLimits = {.regret = 1.1, .first = 1.04};
constexpr int kEarlyRounds = 2;  // until then a config's only sample may be a bad one
constexpr Limits kEarlyLimits = {.regret = 1.25, .first = 1.1};
// Of what the first config takes: the pick, and whom others are compared with before the end.
constexpr double kPickLimit = 1.02, kYardstickLimit = 1.01;

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
    keep_level_with_first(costs(), costs(), kPickLimit);
    if (!running_.empty()) outcome_.pick = running_[pick(costs())];
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
    const bool early = rounds < kLeastRounds;
    const Limits limits = early ? kEarlyLimits : kLimits;
    const auto hopes = [&] { return early ? extremes(&Extremes::least) : costs(); };
    const auto yardstick = [&] { return early ? extremes(&Extremes::most) : costs(); };
    keep_level_with_first(hopes(), yardstick(), limits.first);
    keep_least_regrets(hopes(), yardstick(), limits.regret);
  }

  bool first_runs() const { return !running_.empty() && running_.front() == 0; }

  static bool is_level(const Costs& costs, const Costs& first, double limit) {
    for (std::size_t load = 0; load < kLoads.size(); ++load)
      if (costs[load].median_us > limit * first[load].median_us) return false;
    return true;
  }

  /// Drops who takes more than `limit` times what the first config takes, under any load.
  void keep_level_with_first(const std::vector<Costs>& hopes, const std::vector<Costs>& yardstick,
                             double limit) {
    if (!first_runs()) return;
    keep([&](std::size_t i) { return i == 0 || is_level(hopes[i], yardstick[0], limit); });
  }

  /// Drops whose worst regret is more than `limit` times the least of `yardstick` even by `hopes`;
  /// not the first config, with which the others are compared. Whom that may yet drop is no
  /// yardstick.
  void keep_least_regrets(const std::vector<Costs>& hopes, std::vector<Costs> yardstick,
                          double limit) {
    if (first_runs()) {
      const std::vector<Costs> now = costs();
      for (std::size_t i = now.size(); i-- > 1;)
        if (!is_level(now[i], now[0], kYardstickLimit))
          yardstick.erase(yardstick.begin() + static_cast<std::ptrdiff_t>(i));
    }
    std::array<double, kLoads.size()> best;
    for (std::size_t load = 0; load < kLoads.size(); ++load) {
      best[load] = std::numeric_limits<double>::infinity();
      for (const Costs& costs : yardstick) best[load] = std::min(best[load], costs[load].median_us);
    }
    const auto regret = [&](const Costs& costs) {
      double worst = 0;
      for (std::size_t load = 0; load < kLoads.size(); ++load)
        worst = std::max(worst, costs[load].median_us / best[load]);
      return worst;
    };
    double least = std::numeric_limits<double>::infinity();
    for (const Costs& costs : yardstick) least = std::min(least, regret(costs));
    keep([&](std::size_t i) {
      return running_[i] == 0 || regret(hopes[i]) <= limit * least || is_a_best(hopes, i);
    });
  }

  /// Of those that run, who passes `test` by its place among them.
  template <class Test>
  void keep(const Test& test) {
    std::vector<std::size_t> left;
    for (std::size_t i = 0; i < running_.size(); ++i)
      if (test(i)) left.push_back(running_[i]);
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

  /// Whether no other config is faster under some load.
  static bool is_a_best(const std::vector<Costs>& all, std::size_t i) {
    for (std::size_t load = 0; load < kLoads.size(); ++load)
      if (std::none_of(all.begin(), all.end(), [&](const Costs& costs) {
            return costs[load].median_us < all[i][load].median_us;
          }))
        return true;
    return false;
  }

  std::vector<Costs> costs() const {
    std::vector<Costs> all;
    for (const std::size_t index : running_) all.push_back(outcome_.configs[index].costs);
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
