#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/stored_type.h"
#include "switchyard/tensor.h"

namespace switchyard::checkpoint {

constexpr std::int64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr std::size_t kJsonPadding = 64;               // zero bytes the JSON parser may read

/// One tensor of a file. `begin` counts from the start of the file.
struct StoredTensor {
  std::string_view name;  ///< lives as long as the Header
  StoredType type = StoredType::U8;
  Shape shape;
  std::int64_t begin = 0, bytes = 0;
};

/// A file's table of contents. Every tensor lies inside the file, none overlap and none are
/// missing: together they cover the file.
struct Header {
  std::vector<StoredTensor> tensors;  ///< in the order of the header
  std::map<std::string, std::string> metadata;
  std::shared_ptr<const void> names;  ///< owns what StoredTensor::name points to
};

/// Parses the JSON of a header: `text` is the JSON with kJsonPadding readable bytes behind it,
/// `data_bytes` what follows it in the file, `file` the name for errors.
/// Throws InvalidArgument, naming file, tensor, rule and value.
Header parse_header(std::string_view text, std::int64_t data_bytes, std::string_view file);

/// Opens the file and parses its header.
Header read_header(const std::filesystem::path& file);

}  // namespace switchyard::checkpoint
