#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tune/cost.h"

namespace switchyard::tune {

/// Receives sentences, one a call.
using Log = std::function<void(std::string_view sentence)>;

/// Where a pick was measured. Another device's rows are nobody's here. Rows of other kernels are
/// never planned with, only measured again; rows of other versions (driver, compiler) are planned
/// with where there are no better ones, and measured again by a tuning run.
struct Place {
  std::string device;   ///< "NVIDIA H200, sm_90, 132 SMs"
  std::string kernels;  ///< digest of the texts that picks are compiled from
  std::map<std::string, std::string> versions;
  friend bool operator==(const Place&, const Place&) = default;
};

/// One pick: a line of a tuning file.
struct Row {
  Place place;
  std::string problem;  ///< key_of() it
  std::string config;   ///< as the operation spells it
  Costs costs;
  friend bool operator==(const Row&, const Row&) = default;
};

/// One line of JSON, without its end, times rounded to nanoseconds: parse_row() reads it.
std::string to_line(const Row& row);

/// Throws InvalidArgument, saying why, for what is no row: another program's line, a half of one, a
/// time that is not above 0, a problem line that is not known here or is no key.
Row parse_row(std::string_view line);

/// Adds a row to a file, which is made if there is none. Any number of processes may append to one
/// file: rows do not mix, and a half row that a killed process left spoils no other.
/// Throws InvalidArgument for a row that parse_row() would not take, DeviceError if the system
/// fails (the file is then as it was).
void append(const std::filesystem::path& file, const Row& row);

/// The picks that are known at a place. What a lookup gives does not depend on the order in which
/// rows came, so every rank that reads the same files has the same pick.
class Table {
 public:
  enum class Source { user, shipped };
  struct Found {
    std::string config;
    Costs costs;
    bool remeasure = false;  ///< other versions measured it
    bool stale = false;      ///< other kernels were measured: not to be planned with
  };

  Table(Place place, Log log) : place_(std::move(place)), log_(std::move(log)) {}

  const Place& place() const noexcept { return place_; }

  /// Rows of a text that came with the library; `name` is for sentences. A line that is no row
  /// costs one sentence and is left out; other devices' rows cost nothing.
  void add_text(std::string_view text, std::string_view name, Source source);

  /// The user's file, if it is there. Throws InvalidArgument if it is no regular file or larger
  /// than 256 MiB, DeviceError if the system fails.
  void add_file(const std::filesystem::path& file);

  /// A row of the user's; other devices' are left out.
  void add(Row row, Source source = Source::user);

  /// The pick of a key. The user's rows come before shipped ones, in each of them those of this
  /// place's versions first, and other kernels' last of all; among equals, as of several ranks, the
  /// least worst regret (cost.h) of the configs' median times.
  std::optional<Found> find(std::string_view key) const;

  /// Every key that has rows, in order.
  std::vector<std::string> keys() const;

 private:
  /// Best first.
  enum Standing : std::size_t {
    user,
    other_user,
    shipped,
    other_shipped,
    stale_user,
    stale_shipped,
    standings
  };
  Standing standing(const Row& row, Source source) const;

  Place place_;
  Log log_;
  std::map<std::string, std::array<std::vector<Row>, standings>, std::less<>> rows_;
};

}  // namespace switchyard::tune
