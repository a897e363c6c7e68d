#pragma once

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "jit/cache.h"

namespace switchyard::jit {

/// tests/jit/kernels, embedded into the tests as the library's kernels are into the library.
std::span<const EmbeddedSource> test_sources();

/// A folder of its own below the system's temporary one, removed at the end of the scope.
class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(std::filesystem::temp_directory_path() /
              ("switchyard-test-" + std::to_string(std::random_device{}()))) {
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Log lines, from any thread.
class Lines {
 public:
  Log log() {
    return [this](std::string_view line) {
      const std::lock_guard lock(mutex_);
      lines_.emplace_back(line);
    };
  }
  std::vector<std::string> get() const {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

inline Program scale_program(int threads = 256, std::string arch = "sm_90a") {
  return {.file = "scale/kernel.cuh",
          .instance = "switchyard::scale::kernel<switchyard::scale::Config{" +
                      std::to_string(threads) + ", 4}>",
          .arch = std::move(arch),
          .options = {}};
}

/// What the compiler below makes of a program: enough to tell two apart.
inline Binary made_up(const Program& program, const std::string& version) {
  return {.cubin = "machine code of " + program.instance + " for " + program.arch,
          .symbol = "_Z" + program.instance,
          .compiler = version,
          .warnings = "",
          .resources = {.registers = 42, .stack_bytes = 8, .spill_bytes = 4, .smem_bytes = 16}};
}

/// A compiler that makes things up, after a while, and can be told apart by its version.
inline Compiler made_up_compiler(std::string version = "13.0",
                                 std::chrono::milliseconds takes = {}) {
  return {[=] { return version; },
          [=](const Program& program, const Closure&) {
            std::this_thread::sleep_for(takes);
            return made_up(program, version);
          }};
}

inline CacheOptions test_options(const std::filesystem::path& directory) {
  return {.sources = Sources::embedded(test_sources()),
          .directory = directory,
          .compile = Compile::on,
          .compiler = made_up_compiler(),
          .log = {}};
}

inline std::string slurp(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void spill(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace switchyard::jit
