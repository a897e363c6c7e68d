#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace switchyard {
namespace {

[[noreturn]] void system_failed(const char* call, const std::filesystem::path& path, int error) {
  throw DeviceError(
      fmt::format("[file] {}: {} failed: {}.", path.string(), call, std::strerror(error)));
}

/// An open file; closed by the destructor.
class Descriptor {
 public:
  explicit Descriptor(const std::filesystem::path& path) {
    do {
      number_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    } while (number_ < 0 && errno == EINTR);
    const int error = errno;
    require(number_ >= 0 || (error != ENOENT && error != ENOTDIR),
            "[file] {}: no such file. Check the path.", path.string());
    require(number_ >= 0 || (error != EACCES && error != EPERM),
            "[file] {}: not readable: {}. Check its permissions.", path.string(),
            std::strerror(error));
    if (number_ < 0) system_failed("open", path, error);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { ::close(number_); }
  int number() const noexcept { return number_; }

  std::int64_t size(const std::filesystem::path& path) const {
    struct stat info {};
    if (::fstat(number_, &info) != 0) system_failed("fstat", path, errno);
    require(S_ISREG(info.st_mode), "[file] {}: expected a regular file. Check the path.",
            path.string());
    return info.st_size;
  }

  void read(const std::filesystem::path& path, std::int64_t offset, std::span<std::byte> to) const {
    while (!to.empty()) {
      const ssize_t got = ::pread(number_, to.data(), to.size(), offset);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) system_failed("read", path, errno);
      if (got == 0)
        throw DeviceError(
            fmt::format("[file] {}: it ends at byte {}, {} bytes early. It was cut short.",
                        path.string(), offset, to.size()));
      offset += got;
      to = to.subspan(static_cast<std::size_t>(got));
    }
  }

 private:
  int number_ = -1;
};

struct Pages {
  void* begin;
  std::size_t bytes;
};

/// The pages that hold the range.
Pages pages_of(const std::byte* data, std::int64_t offset, std::int64_t bytes) {
  static const std::int64_t page = ::sysconf(_SC_PAGESIZE);
  const std::int64_t begin = offset / page * page;
  return {const_cast<std::byte*>(data) + begin, static_cast<std::size_t>(offset + bytes - begin)};
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const Descriptor file(path);
  size_ = file.size(path);
  if (size_ == 0) return;
  void* const map = ::mmap(nullptr, static_cast<std::size_t>(size_), PROT_READ,
                           MAP_SHARED | MAP_NORESERVE, file.number(), 0);
  if (map == MAP_FAILED) system_failed("mmap", path, errno);
  data_ = static_cast<const std::byte*>(map);
  ::madvise(map, static_cast<std::size_t>(size_), MADV_SEQUENTIAL);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), static_cast<std::size_t>(size_));
}

void MappedFile::populate(std::int64_t offset, std::int64_t bytes) const {
  if (bytes <= 0) return;
#ifdef MADV_POPULATE_READ
  const Pages pages = pages_of(data_, offset, bytes);
  while (::madvise(pages.begin, pages.bytes, MADV_POPULATE_READ) != 0) {
    if (errno == EINTR || errno == EAGAIN) continue;
    if (errno == EINVAL || errno == ENOSYS) return;  // a kernel before 5.14: pages come by fault
    throw DeviceError(fmt::format("[file] {}: bytes {}..{} cannot be read: {}. It was cut short?",
                                  path_.string(), offset, offset + bytes, std::strerror(errno)));
  }
#endif
}

void MappedFile::release(std::int64_t offset, std::int64_t bytes) const noexcept {
  if (bytes <= 0) return;
  const Pages pages = pages_of(data_, offset, bytes);
  ::madvise(pages.begin, pages.bytes, MADV_DONTNEED);
}

std::int64_t size_of_file(const std::filesystem::path& path) {
  return Descriptor(path).size(path);
}

void read_bytes(const std::filesystem::path& path, std::int64_t offset, std::span<std::byte> to) {
  Descriptor(path).read(path, offset, to);
}

std::string read_text(const std::filesystem::path& path, std::int64_t limit, std::size_t padding) {
  const Descriptor file(path);
  const std::int64_t size = file.size(path);
  require(size <= limit, "[file] {}: expected at most {} bytes, got {}. It is not what it claims.",
          path.string(), limit, size);
  std::string text(static_cast<std::size_t>(size) + padding, '\0');
  file.read(path, 0, std::as_writable_bytes(std::span(text)).first(static_cast<std::size_t>(size)));
  return text;
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  static std::atomic<int> count = 0;
  temporary_ = path_;
  temporary_ += fmt::format(".{}.{}.partial", ::getpid(), count++);
  file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (file_ < 0) system_failed("open for writing", temporary_, errno);
}

AtomicFile::~AtomicFile() {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t wrote = ::write(file_, next, bytes);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) system_failed("write", temporary_, errno);
    next += wrote;
    bytes -= static_cast<std::size_t>(wrote);
  }
}

void AtomicFile::publish() {
  if (::fsync(file_) != 0) system_failed("fsync", temporary_, errno);
  const int closing = std::exchange(file_, -1);
  int error = ::close(closing) == 0 ? 0 : errno;
  if (error == 0 && ::rename(temporary_.c_str(), path_.c_str()) != 0) error = errno;
  if (error == 0) return;
  ::unlink(temporary_.c_str());
  system_failed("publish", path_, error);
}

void publish_text(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.publish();
}

}  // namespace switchyard
