#include "tune/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/file.h"
#include "tune/buckets.h"

namespace switchyard::tune {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kFormat = 1;
constexpr const char* kTag = "switchyard_tuning";
constexpr std::size_t kLongestLine = 1 << 14;
constexpr std::int64_t kLargestFile = 1 << 28;

/// A file that no other process appends to, until the end of the scope.
class LockedFile {
 public:
  LockedFile(const fs::path& path, int flags, int lock) : path_(path) {
    do {
      file_ = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
    } while (file_ < 0 && errno == EINTR);
    if (file_ < 0) fail("open");
    int result = 0;
    do {
      result = ::flock(file_, lock);
    } while (result != 0 && errno == EINTR);
    if (result == 0) return;
    const int error = errno;
    ::close(file_);
    errno = error;
    fail("flock");
  }
  LockedFile(const LockedFile&) = delete;
  LockedFile& operator=(const LockedFile&) = delete;
  ~LockedFile() { ::close(file_); }

  /// Adds a line whole, or throws and leaves the file as it was.
  void add(std::string line) {
    struct stat info {};
    if (::fstat(file_, &info) != 0) fail("fstat");
    char last = '\n';
    if (info.st_size > 0 && ::pread(file_, &last, 1, info.st_size - 1) != 1) fail("read");
    if (last != '\n') line.insert(0, 1, '\n');  // behind the half line of a killed process
    line += '\n';
    for (std::string_view left = line; !left.empty();) {
      const ssize_t wrote = ::write(file_, left.data(), left.size());
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) {
        const int error = errno;
        // If this fails too, half a line stays, which readers skip.
        [[maybe_unused]] const int undone = ::ftruncate(file_, info.st_size);
        errno = error;
        fail("write");
      }
      left.remove_prefix(static_cast<std::size_t>(wrote));
    }
  }

 private:
  [[noreturn]] void fail(const char* call) const {
    throw DeviceError(fmt::format("[tune] {}: {} failed: {}. Check permissions and free space.",
                                  path_.string(), call, std::strerror(errno)));
  }

  const fs::path& path_;
  int file_ = -1;
};

/// Microseconds with three digits: no clock is better.
double to_nanoseconds(double us) {
  return std::round(us * 1000) / 1000;
}

void check(const Row& row) {
  require(!row.place.device.empty(), "it names no device");
  require(!row.config.empty(), "it names no config");
  std::string key;
  try {
    key = key_of(parse_problem(row.problem));
  } catch (const Error& error) {
    throw InvalidArgument(fmt::format("its problem is not known here: {}", error.what()));
  }
  require(key == row.problem, "its problem is no key, whose line would be '{}'", key);
  for (std::size_t load = 0; load < kLoads.size(); ++load) {
    const Cost& cost = row.costs[load];
    require(std::isfinite(cost.median_us) && cost.median_us > 0,
            "median_us under {} load: expected a time above 0, got {}", kLoads[load],
            cost.median_us);
    require(std::isfinite(cost.spread_us) && cost.spread_us >= 0,
            "spread_us under {} load: expected a time of at least 0, got {}", kLoads[load],
            cost.spread_us);
  }
}

Row row_of(const json& line) {
  require(line.is_object() && line.contains(kTag), "it is no line of a tuning file");
  require(line.at(kTag) == kFormat, "its format is {}, and this version reads {}",
          line.at(kTag).dump(), kFormat);
  Row row;
  line.at("device").get_to(row.place.device);
  line.at("kernels").get_to(row.place.kernels);
  line.at("versions").get_to(row.place.versions);
  line.at("problem").get_to(row.problem);
  line.at("config").get_to(row.config);
  for (std::size_t load = 0; load < kLoads.size(); ++load) {
    const std::string name(kLoads[load]);
    line.at("median_us").at(name).get_to(row.costs[load].median_us);
    line.at("spread_us").at(name).get_to(row.costs[load].spread_us);
  }
  check(row);
  return row;
}

/// The rows of one config as one: medians of what was measured.
Costs together(const std::vector<const Row*>& rows) {
  Costs costs;
  for (std::size_t load = 0; load < kLoads.size(); ++load) {
    std::vector<double> medians, spreads;
    for (const Row* row : rows) {
      medians.push_back(row->costs[load].median_us);
      spreads.push_back(row->costs[load].spread_us);
    }
    costs[load] = {.median_us = cost_of(std::move(medians)).median_us,
                   .spread_us = cost_of(std::move(spreads)).median_us};
  }
  return costs;
}

}  // namespace

std::string to_line(const Row& row) {
  json line = {{kTag, kFormat},
               {"device", row.place.device},
               {"kernels", row.place.kernels},
               {"versions", row.place.versions},
               {"problem", row.problem},
               {"config", row.config}};
  for (std::size_t load = 0; load < kLoads.size(); ++load) {
    const std::string name(kLoads[load]);
    line["median_us"][name] = to_nanoseconds(row.costs[load].median_us);
    line["spread_us"][name] = to_nanoseconds(row.costs[load].spread_us);
  }
  return line.dump();
}

Row parse_row(std::string_view line) {
  require(line.size() <= kLongestLine, "it is {} bytes long, and a row at most {}", line.size(),
          kLongestLine);
  const json parsed = json::parse(line, nullptr, /*allow_exceptions=*/false);
  require(!parsed.is_discarded(), "it is no JSON: cut short or damaged");
  try {
    return row_of(parsed);
  } catch (const json::exception& error) {
    throw InvalidArgument(fmt::format("a field is missing or of another type ({})", error.what()));
  }
}

void append(const fs::path& file, const Row& row) {
  check(row);
  std::error_code failed;  // opening the file says what it means
  if (file.has_parent_path()) fs::create_directories(file.parent_path(), failed);
  LockedFile(file, O_RDWR | O_APPEND | O_CREAT, LOCK_EX).add(to_line(row));
}

Table::Standing Table::standing(const Row& row, Source source) const {
  const bool of_user = source == Source::user;
  if (row.place.kernels != place_.kernels) return of_user ? stale_user : stale_shipped;
  if (row.place.versions != place_.versions) return of_user ? other_user : other_shipped;
  return of_user ? user : shipped;
}

void Table::add(Row row, Source source) {
  if (row.place.device != place_.device) return;
  rows_[row.problem][standing(row, source)].push_back(std::move(row));
}

std::vector<std::string> Table::keys() const {
  std::vector<std::string> all;
  for (const auto& [key, rows] : rows_) all.push_back(key);
  return all;
}

void Table::add_text(std::string_view text, std::string_view name, Source source) {
  for (int number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    try {
      add(parse_row(line), source);
    } catch (const Error& error) {
      if (log_) log_(fmt::format("[tune] {}:{} is skipped: {}.", name, number, error.what()));
    }
  }
}

void Table::add_file(const fs::path& file) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return;
  const LockedFile locked(file, O_RDONLY, LOCK_SH);
  add_text(read_text(file, kLargestFile), file.string(), Source::user);
}

std::optional<Table::Found> Table::find(std::string_view key) const {
  const auto entry = rows_.find(key);
  if (entry == rows_.end()) return std::nullopt;
  const auto rows = std::find_if(entry->second.begin(), entry->second.end(),
                                 [](const std::vector<Row>& some) { return !some.empty(); });
  std::map<std::string_view, std::vector<const Row*>> by_config;
  for (const Row& row : *rows) by_config[row.config].push_back(&row);
  std::vector<std::string_view> configs;
  for (const auto& [config, of_it] : by_config) configs.push_back(config);
  // What more ranks picked wins a tie.
  std::stable_sort(configs.begin(), configs.end(), [&](std::string_view a, std::string_view b) {
    return by_config[a].size() > by_config[b].size();
  });
  std::vector<Costs> costs;
  for (const std::string_view config : configs) costs.push_back(together(by_config[config]));
  const std::size_t best = pick(costs);
  const auto standing = static_cast<std::size_t>(rows - entry->second.begin());
  return Found{.config = std::string(configs[best]),
               .costs = costs[best],
               .remeasure = standing != user && standing != shipped,
               .stale = standing >= stale_user};
}

}  // namespace switchyard::tune
