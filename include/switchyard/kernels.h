#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "switchyard/problem.h"

/// GPU kernels are compiled when a layer first needs them and kept on disk, in the folder that
/// SWITCHYARD_CACHE_DIR names. Which ones a layer needs, and how long they should take, can be
/// asked on a machine without a GPU; a cache that was filled there can be carried to one that must
/// not compile (SWITCHYARD_JIT=off).
namespace switchyard::kernels {

/// A compiled kernel on disk.
struct Entry {
  std::string instance;  ///< "switchyard::repack::kernel<...>"
  std::string arch;      ///< "sm_90a"
  std::string compiler;  ///< NVRTC's version, "13.0"
  std::int64_t bytes = 0;
  std::chrono::seconds age = {};
  std::filesystem::path path;
};

/// The folder of the entries. Throws InvalidArgument if neither SWITCHYARD_CACHE_DIR nor a home is
/// set.
std::filesystem::path cache_directory();

/// Every intact entry, by instance.
std::vector<Entry> list();

/// Removes every entry and returns how many there were. Throws DeviceError if one stays.
std::size_t clear();

/// Why no GPU of architecture `arch` ("sm_90a") serves `problem`; empty if one does.
std::optional<std::string> declines(const MoeProblem& problem, std::string_view arch);

/// How a GPU would run a layer.
struct Explained {
  std::size_t workspace_bytes = 0;
  std::string text;  ///< as MoePlan::explain() gives it, with the time that each step should take
};
/// Plans `problem` for GPU `ordinal`, or for an H200 where there is no GPU; the text says which.
/// Needs neither weights nor NVRTC. Throws Unsupported for a problem that is declined.
Explained explain(const MoeProblem& problem, int ordinal = 0);

struct WarmOptions {
  std::string arch = "sm_90a";
  int threads = 0;  ///< 0 = one per core
  /// Called with kernels done and kernels in all; by one thread at a time.
  std::function<void(std::int64_t done, std::int64_t total)> progress;
};

struct Warmed {
  int compiled = 0, found = 0;  ///< kernels that were made, and that were on disk
};

/// Puts every kernel that layers of `problems` need on disk, each once. Needs NVRTC and no GPU.
/// Throws Unsupported for a problem that is declined or without NVRTC, DeviceError if the cache
/// cannot be written.
Warmed warm(std::span<const MoeProblem> problems, const WarmOptions& options = {});

}  // namespace switchyard::kernels
