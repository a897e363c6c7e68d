#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "cli/print.h"

namespace switchyard::cli {

ProgressLine::ProgressLine(std::string what, Unit unit)
    : what_(std::move(what)), unit_(unit), terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() {
  if (shown_) std::fputs("\r\033[K", stderr);
}

Progress ProgressLine::callback() {
  if (!terminal_) return {};
  return [this](std::int64_t done, std::int64_t total) { show(done, total); };
}

void ProgressLine::show(std::int64_t done, std::int64_t total) {
  using namespace std::chrono_literals;
  const Clock::time_point now = Clock::now();
  if (now - start_ < 1s || now - last_ < 100ms) return;
  last_ = now;
  shown_ = true;
  constexpr int kWidth = 30;
  const double share =
      total > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(total), 0., 1.) : 0;
  const int filled = static_cast<int>(share * kWidth);
  fmt::print(stderr, "\r{} [{:#<{}}{:.<{}}] {:3.0f} % of {}\033[K", what_, "", filled, "",
             kWidth - filled, share * 100,
             unit_ == Unit::bytes ? human_bytes(total) : fmt::format("{} kernels", total));
  std::fflush(stderr);
}

}  // namespace switchyard::cli
