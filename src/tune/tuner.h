#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tune/cost.h"
#include "tune/sampler.h"
#include "tune/store.h"

namespace switchyard::tune {

/// A problem and the configs that could serve it.
struct Task {
  std::string problem;               ///< key_of() it
  std::vector<std::string> configs;  ///< best first by the cost model; no two are equal
};

/// How far a tuning run is. Samples that a dropped config does not need any more count as done.
struct Progress {
  std::int64_t done = 0, total = 0;  ///< samples
  double seconds_left = 0;           ///< at the rate so far
};

struct Options {
  int rounds = 10;   ///< samples at most of a config under one load; even: see tune()
  bool drop = true;  ///< configs that are far behind; without, all take part in every round
  Log report;        ///< of every config that failed, and why
  std::function<void(const Progress&)> progress;
  std::function<bool()> stop;  ///< asked before each sample: true ends the run (Ctrl-C)
};

/// What became of a config.
struct Measured {
  std::string config;
  Costs costs;          ///< if it did not fail
  int rounds = 0;       ///< that it took part in; fewer than the winner's if it was dropped
  std::string failure;  ///< why it did not run, or empty
};

struct Outcome {
  std::vector<Measured> configs;    ///< as in the task
  std::optional<std::size_t> pick;  ///< none if every config failed or the run was stopped
  bool stopped = false;
};

/// Measures a task's configs by turns under every load, back and forth, so that a drift of the
/// clock meets all of them (and cancels in the medians of an even number of rounds). Of those that
/// are never slower than the first one, the cost model's, by more than 2 % under any load, it picks
/// the one whose worst regret over the loads is least (cost.h).
/// After the second round a config is dropped if even its best samples are 10 % behind the first
/// config's worst ones, or its worst regret by them 25 % above the least; after the fifth if its
/// medians say so of 4 % and 10 %. Whoever is the best under some load stays: regrets are relative
/// to that. A config that throws, or whose time is not above 0, is out.
Outcome tune(const Task& task, Sampler& sampler, const Options& options);

/// What a tuning run did, in tasks.
struct Summary {
  int tuned = 0;   ///< measured, and appended to the file
  int known = 0;   ///< the table had a pick of this place's versions that is among the candidates
  int failed = 0;  ///< no config ran: nothing is stored, and the cost model keeps picking
  bool stopped = false;
};

/// Whether the table has a pick of its own place, one of the task's configs.
bool knows(const Table& table, const Task& task);

/// Where a tuning run leaves its picks.
struct Book {
  Table& table;
  std::filesystem::path file;
  /// Called with each task before it is measured, and with what became of it.
  std::function<void(const Task&)> begin;
  std::function<void(const Task&, const Outcome&)> end;
};

/// Tunes what the table does not know yet, and adds each pick to it and to the file at once: a run
/// that was stopped or killed goes on where it was. Throws DeviceError if the file cannot be
/// written.
Summary tune(const std::vector<Task>& tasks, Sampler& sampler, const Book& book,
             const Options& options);

}  // namespace switchyard::tune
