#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "jit/compiler.h"

namespace switchyard::jit {

/// Receives the lines a cache has to say.
using Log = std::function<void(std::string_view line)>;

/// One compiled kernel on disk, as `switchyard cache list` prints it.
struct StoredKernel {
  std::filesystem::path path;
  Program program;
  std::string compiler;  // NVRTC's version
  Resources resources;
  std::int64_t bytes = 0;
  std::chrono::seconds age = {};
};

/// Compiled kernels on disk: ROOT/<key>/nvrtc-<version>/{kernel.cubin, entry.json}. Entries appear
/// whole or not at all, and are verified when read; any number of threads and processes may share
/// a root. Nothing here throws for what it finds on disk.
class Store {
 public:
  /// An empty root stores nothing.
  Store(std::filesystem::path root, Log log) : root_(std::move(root)), log_(std::move(log)) {}

  const std::filesystem::path& root() const noexcept { return root_; }

  /// The entry of that key and compiler; empty, with a log line, if it is damaged or of another
  /// program. An empty `compiler` takes any, the newest first.
  std::optional<Binary> read(const Digest& key, const Program& program,
                             std::string_view compiler) const;

  /// Keeps what is there if it is intact: any compilation of a program is as good. A root that
  /// cannot be written costs one log line in all.
  void write(const Digest& key, const Program& program, const Binary& binary);

  /// Intact entries, by program.
  std::vector<StoredKernel> list() const;

  /// Removes every entry and what crashed writers left; returns how many entries there were.
  std::size_t clear();

 private:
  std::optional<Binary> read_entry(const std::filesystem::path& entry,
                                   const Program& program) const;
  void publish(const std::filesystem::path& entry, const Program& program, const Binary& binary);

  std::filesystem::path root_;
  Log log_;
  std::atomic<bool> write_failed_ = false;
};

}  // namespace switchyard::jit
