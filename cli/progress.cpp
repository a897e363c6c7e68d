#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "cli/print.h"

namespace switchyard::cli {

ProgressLine::ProgressLine(std::string what, Unit unit)
    : what_(std::move(what)), unit_(unit), terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() {
  wipe();
}

void ProgressLine::wipe() {
  if (shown_) std::fputs("\r\033[K", stderr);
  shown_ = false;
}

Progress ProgressLine::callback() {
  if (!terminal_) return {};
  return [this](std::int64_t done, std::int64_t total) { show(done, total); };
}

void ProgressLine::show(std::int64_t done, std::int64_t total, double seconds_left) {
  using namespace std::chrono_literals;
  if (!terminal_) return;
  const Clock::time_point now = Clock::now();
  if (now - start_ < 1s || now - last_ < 100ms) return;
  last_ = now;
  shown_ = true;
  constexpr int kWidth = 30;
  const double share =
      total > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(total), 0., 1.) : 0;
  const int filled = static_cast<int>(share * kWidth);
  const std::string of = unit_ == Unit::bytes     ? human_bytes(total)
                         : unit_ == Unit::kernels ? fmt::format("{} kernels", total)
                                                  : fmt::format("{} samples", total);
  const std::string left =
      seconds_left > 0 ? fmt::format(", {:.0f} s left", std::ceil(seconds_left)) : "";
  fmt::print(stderr, "\r{} [{:#<{}}{:.<{}}] {:3.0f} % of {}{}\033[K", what_, "", filled, "",
             kWidth - filled, share * 100, of, left);
  std::fflush(stderr);
}

}  // namespace switchyard::cli
