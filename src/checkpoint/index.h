#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::checkpoint {

/// Which file holds which tensor, as model.safetensors.index.json says it.
struct Index {
  struct Entry {
    std::string_view tensor;  ///< lives as long as `names`
    int shard = 0;
  };
  std::vector<std::string> shards;  ///< file names
  std::vector<Entry> entries;
  std::shared_ptr<const void> names;
};

/// Parses an index: `text` has kJsonPadding readable bytes behind it, `file` is for errors.
/// Throws InvalidArgument for anything but {"weight_map": {tensor: plain file name}}.
Index parse_index(std::string_view text, std::string_view file);

/// The files of a checkpoint.
struct Files {
  std::filesystem::path directory;
  std::vector<std::string> shards;  ///< all of them, whether they exist or not
  Index index;                      ///< no entries if there is no index
};

/// A directory with an index, or with .safetensors files alone, or one .safetensors file.
/// Throws InvalidArgument if it is none of them.
Files find_files(const std::filesystem::path& path);

}  // namespace switchyard::checkpoint
