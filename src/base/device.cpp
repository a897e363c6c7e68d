#include "switchyard/device.h"

#include <fmt/format.h>

#include "base/thread_pool.h"

namespace switchyard {

std::string to_string(const Device& device) {
  const int threads = device.threads > 0 ? device.threads : usable_cores();
  return fmt::format("cpu, {} thread{}", threads, threads == 1 ? "" : "s");
}

}  // namespace switchyard
