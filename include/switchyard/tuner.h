#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "switchyard/problem.h"

/// Which variant serves a batch best on this GPU, by measurement. MoeLayer::plan() takes what was
/// measured on such a machine, and the cost model's choice where nothing was. Tables for some
/// machines come with the library; what is tuned here is kept beside the kernel cache and wins.
namespace switchyard::tuner {

/// The user's picks: SWITCHYARD_CACHE_DIR/tuning.jsonl. Throws InvalidArgument if neither it nor a
/// home is set.
std::filesystem::path file();

/// The batch sizes up to `max_tokens` that are tuned. A batch between two of them is planned like
/// the one below.
std::vector<int> buckets(int max_tokens);

struct Progress {
  std::int64_t done = 0, total = 0;  ///< samples
  double seconds_left = 0;
};

struct Options {
  std::filesystem::path out;                ///< picks are appended to it; file() if empty
  std::vector<std::filesystem::path> from;  ///< files of picks that need not be measured again
  bool again = false;       ///< measures what shipped tables and the user's file know, too
  bool exhaustive = false;  ///< measures every variant to the end, not only promising ones
  int rounds = 10;          ///< samples of a variant under each load at most: 6 or more, even
  int device = 0;
  int threads = 0;  ///< that compile kernels ahead; 0 = all cores but two
  /// A program that calls serve(): variants then run in a process of their own, which one that
  /// crashes or hangs takes with it. Empty: in this process.
  std::vector<std::string> worker;
  /// Every variant's times, a JSON object a line for each batch; empty for none.
  std::filesystem::path details;
  std::function<void(std::string_view sentence)> report;  ///< what was left out, and why
  std::function<void(const Progress&)> progress;
  std::function<bool()> stop;  ///< asked often; true ends the run, what is done is kept
};

struct Summary {
  int tuned = 0;   ///< picks that were measured and stored
  int known = 0;   ///< batches with a pick already
  int failed = 0;  ///< batches that no variant ran
  bool stopped = false;
};

/// Picks a variant for each problem's layer and the bucket of its tokens, under balanced, zipf and
/// hot routing at once: the least worst regret. Stores each pick as soon as it is known, so that a
/// run that ended early goes on where it was.
/// Throws Unsupported without a GPU, or for a problem that no GPU kernel serves; DeviceError if
/// `out` cannot be written.
Summary tune(std::span<const MoeProblem> problems, const Options& options);

/// What Options::worker runs: answers on descriptor 0 until it is closed.
void serve(int device);

/// Writes the picks of `from`, one for each batch, versions and machine, in a fixed order: any
/// order of the files and lines gives the same. Rows of other kernels than this library's are left
/// out. Returns how many were written. Needs no GPU.
int merge(std::span<const std::filesystem::path> from, const std::filesystem::path& out,
          const std::function<void(std::string_view sentence)>& report = {});

}  // namespace switchyard::tuner
