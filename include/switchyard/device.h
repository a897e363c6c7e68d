#pragma once

#include <string>
#include <string_view>

namespace switchyard {

enum class DeviceKind { cpu, cuda };

/// Where a layer runs.
struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int threads = 0;  ///< CPU only; 0 = one per core this process may use
  int ordinal = 0;  ///< CUDA only; as CUDA_VISIBLE_DEVICES leaves them

  static Device cpu(int threads = 0) { return {DeviceKind::cpu, threads, 0}; }
  static Device cuda(int ordinal = 0) { return {DeviceKind::cuda, 0, ordinal}; }
  friend bool operator==(const Device&, const Device&) = default;
};

/// "cpu, 2 threads", "cuda:0"
std::string to_string(const Device& device);

/// "cpu", "cuda", "cuda:1". Throws InvalidArgument for anything else.
Device parse_device(std::string_view text);

/// A CUDA stream of the caller's: a cudaStream_t or CUstream. Null: the legacy default stream.
struct Stream {
  void* handle = nullptr;
};

}  // namespace switchyard
