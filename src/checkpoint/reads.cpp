#include "checkpoint/reads.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#include "base/check.h"
#include "base/file.h"

namespace switchyard::checkpoint {
namespace {

constexpr std::int64_t kWindow = std::int64_t{2} << 20;  // bytes of a file mapped at a time
constexpr unsigned kThreads = 2;

/// Copies runs out of the file a window at a time; the process never holds more of it.
void copy_runs(const MappedFile& file, const Read& read, std::byte* to, std::int64_t to_stride) {
  // A run longer than the window goes in pieces, short ones go many at a time.
  const std::int64_t piece = std::min(read.row_bytes, kWindow);
  const std::int64_t rows_at_once =
      read.row_bytes > kWindow ? 1 : std::max<std::int64_t>(1, kWindow / read.stride);
  for (std::int64_t row = 0; row < read.rows; row += rows_at_once) {
    const std::int64_t rows = std::min(rows_at_once, read.rows - row);
    for (std::int64_t column = 0; column < read.row_bytes; column += piece) {
      const std::int64_t bytes = std::min(piece, read.row_bytes - column);
      const std::int64_t begin = read.begin + row * read.stride + column;
      const std::int64_t span = (rows - 1) * read.stride + bytes;
      file.populate(begin, span);
      for (std::int64_t r = 0; r < rows; ++r)
        std::memcpy(to + (row + r) * to_stride + column, file.data() + begin + r * read.stride,
                    static_cast<std::size_t>(bytes));
      file.release(begin, span);
    }
  }
}

void perform(const MappedFile& file, const Read& read) {
  if (!read.then) {
    copy_runs(file, read, read.to, read.to_stride);
    return;
  }
  std::vector<std::byte> runs(static_cast<std::size_t>(read.bytes()));
  copy_runs(file, read, runs.data(), read.row_bytes);
  read.then(runs.data());
}

}  // namespace

void Reads::add(Read read) {
  if (read.bytes() == 0) return;
  if (read.stride == read.row_bytes && (read.then || read.to_stride == read.row_bytes)) {
    read.row_bytes *= read.rows;  // one long run
    read.stride = read.to_stride = read.row_bytes;
    read.rows = 1;
  }
  bytes_ += read.bytes();
  reads_.push_back(std::move(read));
}

void Reads::run(const std::filesystem::path& directory, const std::vector<std::string>& shards,
                const Progress& progress) {
  std::stable_sort(reads_.begin(), reads_.end(), [](const Read& a, const Read& b) {
    return a.shard != b.shard ? a.shard < b.shard : a.begin < b.begin;
  });
  std::vector<MappedFile> files(shards.size());
  for (const Read& read : reads_) {
    MappedFile& file = files[static_cast<std::size_t>(read.shard)];
    if (!file) file = MappedFile(directory / shards[static_cast<std::size_t>(read.shard)]);
    require(read.begin + (read.rows - 1) * read.stride + read.row_bytes <= file.size(),
            "[checkpoint] {}: the file became shorter since it was opened. Open it again.",
            shards[static_cast<std::size_t>(read.shard)]);
  }
  std::atomic<std::size_t> next = 0;
  std::atomic<std::int64_t> done = 0;
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto work = [&](bool reports) {
    try {
      for (std::size_t i = next++; i < reads_.size(); i = next++) {
        perform(files[static_cast<std::size_t>(reads_[i].shard)], reads_[i]);
        done += reads_[i].bytes();
        if (reports && progress) progress(done, bytes_);
      }
    } catch (...) {
      const std::lock_guard lock(failure_mutex);
      if (!failure) failure = std::current_exception();
      next = reads_.size();
    }
  };
  {
    constexpr std::int64_t kWorthAThread = std::int64_t{8} << 20;
    std::vector<std::jthread> helpers;
    for (unsigned i = 1; i < kThreads && bytes_ > kWorthAThread; ++i)
      helpers.emplace_back(work, false);
    work(true);
  }
  if (failure) std::rethrow_exception(failure);
  for (const auto& step : steps_) step();
  if (progress) progress(bytes_, bytes_);
}

}  // namespace switchyard::checkpoint
