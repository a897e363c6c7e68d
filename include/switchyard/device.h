#pragma once

#include <string>

namespace switchyard {

enum class DeviceKind { cpu };

/// Where a layer runs.
struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int threads = 0;  ///< CPU only; 0 = one per core this process may use

  static Device cpu(int threads = 0) { return {DeviceKind::cpu, threads}; }
  friend bool operator==(const Device&, const Device&) = default;
};

/// "cpu, 2 threads"
std::string to_string(const Device& device);

}  // namespace switchyard
