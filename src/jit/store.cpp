#include "jit/store.h"

#include <unistd.h>

#include <algorithm>
#include <random>
#include <tuple>

#include "base/check.h"
#include "jit/entry.h"

namespace switchyard::jit {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kCompilerPrefix = "nvrtc-";
constexpr std::string_view kAsidePrefix = ".aside-";

/// Folders directly below `parent`; none if it cannot be read.
std::vector<fs::path> folders(const fs::path& parent) {
  std::vector<fs::path> found;
  std::error_code failed;
  for (fs::directory_iterator next(parent, failed), end; !failed && next != end;
       next.increment(failed))
    if (std::error_code ignored; next->is_directory(ignored)) found.push_back(next->path());
  return found;
}

bool is_aside(const fs::path& folder) {
  return folder.filename().string().starts_with(kAsidePrefix);
}

/// "nvrtc-12.9" < "nvrtc-13.0" < "nvrtc-13.10"
std::pair<int, int> version_of(const fs::path& entry) {
  const std::string name = entry.filename().string();
  int major = 0, minor = 0;
  std::sscanf(name.c_str(), "nvrtc-%d.%d", &major, &minor);
  return {major, minor};
}

std::vector<fs::path> newest_first(const fs::path& key_folder) {
  std::vector<fs::path> all = folders(key_folder);
  std::sort(all.begin(), all.end(),
            [](const fs::path& a, const fs::path& b) { return version_of(a) > version_of(b); });
  return all;
}

/// A name that no other thread or process uses.
fs::path aside(const fs::path& root) {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return root / fmt::format("{}{}-{:016x}", kAsidePrefix, ::getpid(), random());
}

/// Whether `folder` is an intact entry of `program`.
bool holds(const fs::path& folder, const Program& program) {
  try {
    return read_entry(folder).program == program;
  } catch (const Error&) {
    return false;
  }
}

/// Removes a folder at the end of the scope, if it is still there.
struct Removed {
  fs::path folder;
  ~Removed() {
    std::error_code ignored;
    fs::remove_all(folder, ignored);
  }
};

}  // namespace

std::optional<Binary> Store::read(const Digest& key, const Program& program,
                                  std::string_view compiler) const {
  if (root_.empty()) return std::nullopt;
  const fs::path folder = root_ / to_string(key);
  if (!compiler.empty())
    return read_entry(folder / (std::string(kCompilerPrefix) + std::string(compiler)), program);
  for (const fs::path& entry : newest_first(folder))
    if (std::optional<Binary> found = read_entry(entry, program)) return found;
  return std::nullopt;
}

std::optional<Binary> Store::read_entry(const fs::path& folder, const Program& program) const {
  std::error_code ignored;
  if (!fs::exists(folder, ignored)) return std::nullopt;
  try {
    Entry entry = jit::read_entry(folder);
    require(entry.program == program, "it holds {} for {}", entry.program.instance,
            entry.program.arch);
    return std::move(entry.binary);
  } catch (const Error& error) {
    log_(fmt::format("[jit] damaged cache entry {}: {}. {} is compiled again.", folder.string(),
                     error.what(), program.instance));
    return std::nullopt;
  }
}

void Store::write(const Digest& key, const Program& program, const Binary& binary) {
  if (root_.empty()) return;
  const fs::path folder = root_ / to_string(key) / (std::string(kCompilerPrefix) + binary.compiler);
  try {
    publish(folder, program, binary);
  } catch (const std::exception& error) {
    if (!write_failed_.exchange(true))
      log_(
          fmt::format("[jit] the kernel cache {} cannot be written: {}. Kernels stay in memory "
                      "for this process; SWITCHYARD_CACHE_DIR names another place.",
                      root_.string(), error.what()));
  }
}

void Store::publish(const fs::path& entry, const Program& program, const Binary& binary) {
  const Removed fresh{aside(root_)};
  write_entry(fresh.folder, {program, binary});
  fs::create_directories(entry.parent_path());
  std::error_code failed;
  fs::rename(fresh.folder, entry, failed);
  // Who came first is read by others already: an intact entry is never replaced.
  if (!failed || holds(entry, program)) return;
  // A folder is not replaced by a rename: move the damaged one away.
  const Removed old{aside(root_)};
  std::error_code ignored;
  fs::rename(entry, old.folder, ignored);
  fs::rename(fresh.folder, entry, failed);
  const bool another_healed_it =
      failed == std::errc::directory_not_empty || failed == std::errc::file_exists;
  if (failed && !another_healed_it) throw DeviceError(failed.message());
}

std::vector<StoredKernel> Store::list() const {
  std::vector<StoredKernel> all;
  for (const fs::path& key : folders(root_)) {
    if (is_aside(key)) continue;
    for (const fs::path& folder : folders(key)) {
      try {
        Entry entry = jit::read_entry(folder);
        const auto age = fs::file_time_type::clock::now() - fs::last_write_time(folder);
        all.push_back({.path = folder,
                       .program = std::move(entry.program),
                       .compiler = entry.binary.compiler,
                       .resources = entry.binary.resources,
                       .bytes = static_cast<std::int64_t>(entry.binary.cubin.size()),
                       .age = std::chrono::duration_cast<std::chrono::seconds>(age)});
      } catch (const std::exception&) {
        continue;  // damaged, or removed meanwhile
      }
    }
  }
  std::sort(all.begin(), all.end(), [](const StoredKernel& a, const StoredKernel& b) {
    return std::tie(a.program.file, a.program.instance, a.program.arch, a.compiler) <
           std::tie(b.program.file, b.program.instance, b.program.arch, b.compiler);
  });
  return all;
}

std::size_t Store::clear() {
  std::size_t entries = 0;
  for (const fs::path& key : folders(root_)) {
    if (!is_aside(key)) entries += folders(key).size();
    std::error_code failed;
    fs::remove_all(key, failed);
    if (failed)
      throw DeviceError(
          fmt::format("[jit] {} cannot be removed: {}.", key.string(), failed.message()));
  }
  return entries;
}

}  // namespace switchyard::jit
