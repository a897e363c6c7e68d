// A second process for the tests of src/tune:
//   append FILE RANK ROWS   waits for FILE.go, then appends rows of that rank
//   tear FILE               is killed in the middle of an append, with the file locked
//   serve                   answers a Worker; a config's name says what becomes of it
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <new>
#include <string_view>
#include <thread>

#include "base/check.h"
#include "tests/tune/support.h"
#include "tune/worker.h"

namespace {

using namespace switchyard;
using namespace switchyard::tune;

int append_rows(const std::filesystem::path& file, int rank, int rows) {
  while (!std::filesystem::exists(file.string() + ".go"))
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  for (int i = 0; i < rows; ++i)
    append(file, row_at(8 * (1 + i % 15), "rank " + std::to_string(rank), 100 + rank));
  return 0;
}

int tear(const char* file) {
  const std::string line = to_line(row_at(8, "half", 1));
  const int descriptor = ::open(file, O_WRONLY | O_APPEND | O_CREAT, 0644);
  if (descriptor < 0 || ::flock(descriptor, LOCK_EX) != 0) return 3;
  if (::write(descriptor, line.data(), line.size() / 2) < 0) return 4;
  return ::raise(SIGKILL);
}

/// "spoils" leaves a process in which nothing runs any more; "crowded" runs only alone.
double made_up(const Trial& trial) {
  static int others = 0;
  static bool spoiled = false;
  if (spoiled) throw DeviceError("CUDA_ERROR_LAUNCH_FAILED: sticky");
  if (trial.config == "crowded" && others > 0) throw DeviceError("CUDA_ERROR_OUT_OF_MEMORY");
  if (trial.config == "large") throw std::bad_alloc();
  if (trial.config == "declines") throw Unsupported("needs sm_100");
  if (trial.config == "killed") ::raise(SIGKILL);
  if (trial.config == "exits") ::_exit(7);
  if (trial.config == "hangs") std::this_thread::sleep_for(std::chrono::hours(1));
  if (trial.config == "spoils") {
    spoiled = true;
    throw DeviceError("an illegal address");
  }
  others += trial.config != "crowded";
  return trial.load == "hot" ? 20 : 10;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "append" && argc == 5)
    return append_rows(argv[2], std::atoi(argv[3]), std::atoi(argv[4]));
  if (what == "tear" && argc == 3) return tear(argv[2]);
  if (what != "serve") return 2;
  FakeSampler sampler(made_up);
  serve(sampler);
  return 0;
}
