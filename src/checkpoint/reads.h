#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "switchyard/checkpoint.h"

namespace switchyard::checkpoint {

/// A rectangle of a file: `rows` runs of `row_bytes`, one every `stride` bytes.
struct Read {
  int shard = 0;
  std::int64_t begin = 0;
  std::int64_t rows = 1, row_bytes = 0, stride = 0;
  std::byte* to = nullptr;  ///< where the first run goes; the next ones every to_stride bytes
  std::int64_t to_stride = 0;
  /// Instead of `to`: called once with the runs behind each other, on any thread.
  std::function<void(const std::byte*)> then;

  std::int64_t bytes() const noexcept { return rows * row_bytes; }
};

/// What a load reads, collected first and then done in the order of the files.
class Reads {
 public:
  void add(Read read);
  /// After all reads, in the order they were added.
  void finally(std::function<void()> step) { steps_.push_back(std::move(step)); }
  std::int64_t bytes() const noexcept { return bytes_; }

  /// Reads everything with two threads, mapping a few megabytes at a time, then takes the final
  /// steps. Throws what a step throws, or DeviceError.
  void run(const std::filesystem::path& directory, const std::vector<std::string>& shards,
           const Progress& progress);

 private:
  std::vector<Read> reads_;
  std::vector<std::function<void()>> steps_;
  std::int64_t bytes_ = 0;
};

}  // namespace switchyard::checkpoint
