#include "switchyard/device.h"

#include <fmt/format.h>

#include <charconv>

#include "base/thread_pool.h"
#include "switchyard/error.h"

namespace switchyard {

std::string to_string(const Device& device) {
  if (device.kind == DeviceKind::cuda) return fmt::format("cuda:{}", device.ordinal);
  const int threads = device.threads > 0 ? device.threads : usable_cores();
  return fmt::format("cpu, {} thread{}", threads, threads == 1 ? "" : "s");
}

Device parse_device(std::string_view text) {
  if (text == "cpu") return Device::cpu();
  if (text == "cuda") return Device::cuda();
  int ordinal = -1;
  if (text.starts_with("cuda:")) {
    const std::string_view number = text.substr(5);
    const char* end = number.data() + number.size();
    if (const auto read = std::from_chars(number.data(), end, ordinal);
        read.ec == std::errc{} && read.ptr == end && ordinal >= 0)
      return Device::cuda(ordinal);
  }
  throw InvalidArgument(
      fmt::format("[device] device: expected cpu, cuda or cuda:N, got '{}'.", text));
}

}  // namespace switchyard
