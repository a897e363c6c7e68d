#include "checkpoint/index.h"

#include <simdjson.h>

#include <algorithm>
#include <functional>
#include <unordered_map>

#include "base/check.h"
#include "base/file.h"
#include "checkpoint/safetensors.h"

namespace switchyard::checkpoint {
namespace {

namespace od = simdjson::ondemand;

constexpr std::string_view kIndexSuffix = ".safetensors.index.json";
constexpr std::int64_t kMaxIndexBytes = std::int64_t{2} << 30;

void check_json(std::string_view file, simdjson::error_code error) {
  require(error == simdjson::SUCCESS,
          "[checkpoint] {}: expected {{\"weight_map\": {{tensor: file}}}} in JSON, got: {} The "
          "index is damaged: download it again.",
          file, simdjson::error_message(error));
}

/// A shard lies beside its index: a path could name any file of the machine.
void check_shard_name(std::string_view file, std::string_view shard) {
  require(!shard.empty() && shard.find('/') == std::string_view::npos &&
              shard.find('\0') == std::string_view::npos && shard.front() != '.',
          "[checkpoint] {}: expected plain file names in weight_map, got '{}'. Put the shards "
          "beside the index.",
          file, shard);
}

class IndexParser {
 public:
  explicit IndexParser(std::string_view file) : file_(file) {}

  void read_weight_map(od::object& map, Index& index) {
    for (auto field : map) {
      Index::Entry entry;
      std::string_view shard;
      check_json(file_, field.unescaped_key().get(entry.tensor));
      check_json(file_, field.value().get_string().get(shard));
      if (index.entries.empty() || shard != index.shards[static_cast<std::size_t>(last_)])
        last_ = number(shard, index);
      entry.shard = last_;
      index.entries.push_back(entry);
    }
  }

 private:
  int number(std::string_view shard, Index& index) {
    const auto [place, added] =
        numbers_.try_emplace(std::string(shard), static_cast<int>(index.shards.size()));
    if (added) {
      check_shard_name(file_, shard);
      index.shards.emplace_back(shard);
    }
    return place->second;
  }

  std::string_view file_;
  std::unordered_map<std::string, int> numbers_;
  int last_ = 0;
};

/// A checkpoint without an index: its own files, or whatever lies there.
std::vector<std::string> scan(const std::filesystem::path& directory) {
  std::vector<std::string> all;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    if (entry.path().extension() == ".safetensors") all.push_back(entry.path().filename());
  const auto is_model = [](const std::string& name) { return name.starts_with("model"); };
  // "consolidated" files repeat the tensors of "model" ones under other names.
  if (std::any_of(all.begin(), all.end(), is_model)) std::erase_if(all, std::not_fn(is_model));
  std::sort(all.begin(), all.end());
  return all;
}

std::filesystem::path index_in(const std::filesystem::path& directory) {
  std::filesystem::path usual = directory / ("model" + std::string(kIndexSuffix));
  if (std::filesystem::exists(usual)) return usual;
  std::vector<std::filesystem::path> all;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    if (entry.path().filename().string().ends_with(kIndexSuffix)) all.push_back(entry.path());
  return all.size() == 1 ? all.front() : std::filesystem::path();
}

}  // namespace

Index parse_index(std::string_view text, std::string_view file) {
  const auto parser = std::make_shared<od::parser>();
  od::document document;
  check_json(file,
             parser->iterate(text.data(), text.size(), text.size() + kJsonPadding).get(document));
  od::object root;
  check_json(file, document.get_object().get(root));
  Index index;
  bool found = false;
  for (auto field : root) {
    std::string_view key;
    check_json(file, field.unescaped_key().get(key));
    if (key != "weight_map") continue;
    require(!std::exchange(found, true), "[checkpoint] {}: weight_map appears twice.", file);
    od::object map;
    check_json(file, field.value().get_object().get(map));
    IndexParser(file).read_weight_map(map, index);
  }
  require(found, "[checkpoint] {}: expected weight_map, got an index without one.", file);
  index.names = parser;
  return index;
}

Files find_files(const std::filesystem::path& path) {
  require(
      std::filesystem::exists(path),
      "[checkpoint] {}: no such file or directory. Check the path, or download the model first.",
      path.string());
  if (!std::filesystem::is_directory(path)) {
    require(path.extension() == ".safetensors",
            "[checkpoint] {}: expected a directory or a .safetensors file. Check the path.",
            path.string());
    return {path.parent_path(), {path.filename().string()}, {}};
  }
  Files files{path, {}, {}};
  if (const std::filesystem::path index = index_in(path); !index.empty()) {
    const std::string text = read_text(index, kMaxIndexBytes, kJsonPadding);
    files.index = parse_index(std::string_view(text).substr(0, text.size() - kJsonPadding),
                              index.filename().string());
    files.shards = files.index.shards;
  } else {
    files.shards = scan(path);
  }
  require(!files.shards.empty(),
          "[checkpoint] {}: expected *.safetensors files, got none. Check the path, or convert "
          "the checkpoint to safetensors.",
          path.string());
  return files;
}

}  // namespace switchyard::checkpoint
