#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace switchyard {

/// A file that is mapped read-only as a whole. Movable; unmapped by the destructor.
class MappedFile {
 public:
  MappedFile() = default;
  /// Throws InvalidArgument if there is no such regular file, DeviceError if the system fails.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::int64_t size() const noexcept { return size_; }
  const std::byte* data() const noexcept { return data_; }
  explicit operator bool() const noexcept { return data_ != nullptr; }

  /// Maps the pages of [offset, offset + bytes) in one call, so that a file that was cut short
  /// meanwhile is a DeviceError here rather than a signal later.
  void populate(std::int64_t offset, std::int64_t bytes) const;
  /// Takes those pages out of this process's memory; they stay in the page cache.
  void release(std::int64_t offset, std::int64_t bytes) const noexcept;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::int64_t size_ = 0;
};

/// Bytes of a regular file; throws InvalidArgument if there is none, naming it.
std::int64_t size_of_file(const std::filesystem::path& path);

/// Fills `to` from `offset`; throws DeviceError for a short read.
void read_bytes(const std::filesystem::path& path, std::int64_t offset, std::span<std::byte> to);

/// A text file with `padding` zero bytes behind it (they are part of the string).
std::string read_text(const std::filesystem::path& path, std::int64_t limit,
                      std::size_t padding = 0);

/// A file that appears under its name complete or not at all: written under a temporary name
/// beside it, synced and renamed by publish(). The destructor removes what was not published.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void publish();

 private:
  std::filesystem::path path_, temporary_;
  int file_ = -1;
};

/// Writes aside and renames.
void publish_text(const std::filesystem::path& path, std::string_view text);

}  // namespace switchyard
