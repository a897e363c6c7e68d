#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "switchyard/checkpoint.h"

namespace switchyard::cli {

/// A line on stderr that appears once the work has taken a second, on a terminal only, and is
/// wiped when the work is done or fails.
class ProgressLine {
 public:
  enum class Unit { bytes, kernels, samples };
  explicit ProgressLine(std::string what, Unit unit = Unit::bytes);
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine();

  /// The callback for the library; this object must outlive it.
  Progress callback();

  /// What the callback does; with the time left, if it is known.
  void show(std::int64_t done, std::int64_t total, double seconds_left = 0);

  /// Makes room for another line.
  void wipe();

 private:
  using Clock = std::chrono::steady_clock;
  std::string what_;
  Unit unit_;
  Clock::time_point start_ = Clock::now(), last_ = start_;
  bool terminal_;
  bool shown_ = false;
};

}  // namespace switchyard::cli
