#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "jit/compiler.h"
#include "jit/sources.h"
#include "jit/store.h"

namespace switchyard::jit {

enum class Compile { off, on };

struct CacheOptions {
  Sources sources = Sources::library();
  std::filesystem::path directory;  // of this cache's entries; empty: memory only
  Compile compile = Compile::on;
  Compiler compiler = nvrtc_compiler();
  Log log;
};

/// From SWITCHYARD_CACHE_DIR, SWITCHYARD_JIT and SWITCHYARD_KERNEL_DIR.
/// Throws InvalidArgument for another value of SWITCHYARD_JIT than on or off.
CacheOptions cache_options_from_env();

/// What names a compiled kernel, but for the compiler's version: a cache filled elsewhere serves a
/// machine without NVRTC.
Digest cache_key(const Digest& closure, const Program& program);

/// How often each source had to be asked.
struct CacheStats {
  int memory = 0, disk = 0, compiled = 0;
  friend bool operator==(const CacheStats&, const CacheStats&) = default;
};

/// Compiled kernels: from memory, then from disk, then from the compiler. Any thread may call.
class Cache {
 public:
  explicit Cache(CacheOptions options);

  /// Threads that ask for one program at once wait for one compilation.
  /// Throws Unsupported if it would have to compile and must not or cannot, DeviceError if the
  /// program does not compile, InvalidArgument if its file does not exist.
  std::shared_ptr<const Binary> get(const Program& program);

  /// The same for many, in their order, on `threads` threads. Throws the first failure.
  std::vector<std::shared_ptr<const Binary>> get(std::span<const Program> programs, int threads);

  CacheStats stats() const;

 private:
  struct Slot {
    std::mutex mutex;
    std::shared_ptr<const Binary> binary;
  };

  std::shared_ptr<const Closure> closure(const std::string& file);
  std::shared_ptr<const Binary> load_or_compile(const Digest& key, const Program& program,
                                                const Closure& closure);
  void count(int CacheStats::*source);

  const CacheOptions options_;
  Store store_;
  mutable std::mutex mutex_;  // guards what follows, for look-ups only
  std::map<std::string, std::shared_ptr<const Closure>> closures_;
  std::map<std::string, std::shared_ptr<Slot>> slots_;
  CacheStats stats_;
};

}  // namespace switchyard::jit
