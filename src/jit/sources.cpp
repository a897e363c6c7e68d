#include "jit/sources.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>

#include "base/check.h"
#include "base/env.h"

namespace switchyard::jit {
namespace {

/// The path that `line` includes in quotes; empty if it includes none.
std::string_view included(std::string_view line) {
  const auto skip = [&](std::string_view token) {
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    const bool found = line.starts_with(token);
    if (found) line.remove_prefix(token.size());
    return found;
  };
  if (!skip("#") || !skip("include") || !skip("\"")) return {};
  return line.substr(0, line.find('"'));
}

struct Include {
  std::string path, at;  // at: "ops/finalize/kernel.cuh:12"
};

std::vector<Include> includes_of(const SourceFile& file) {
  std::vector<Include> found;
  int number = 0;
  for (std::size_t begin = 0; begin < file.text.size(); ++number) {
    const std::size_t end = std::min(file.text.find('\n', begin), file.text.size());
    const std::string_view line = std::string_view(file.text).substr(begin, end - begin);
    if (const std::string_view path = included(line); !path.empty())
      found.push_back({std::string(path), fmt::format("{}:{}", file.path, number + 1)});
    begin = end + 1;
  }
  return found;
}

}  // namespace

Sources Sources::library() {
  const std::string root = env("SWITCHYARD_KERNEL_DIR");
  return root.empty() ? embedded(embedded_sources()) : directory(root);
}

Sources Sources::embedded(std::span<const EmbeddedSource> table) {
  Sources sources;
  sources.table_ = table;
  return sources;
}

Sources Sources::directory(std::filesystem::path root) {
  Sources sources;
  sources.root_ = std::move(root);
  return sources;
}

std::string Sources::read(std::string_view path, std::string_view included_at) const {
  const std::string by =
      included_at.empty() ? std::string() : fmt::format(", included at {}", included_at);
  if (root_.empty()) {
    const auto entry = std::find_if(table_.begin(), table_.end(),
                                    [&](const EmbeddedSource& e) { return e.path == path; });
    require(entry != table_.end(),
            "[jit] no kernel file {} in this build{}. List it in switchyard_kernel_sources "
            "(CMakeLists.txt).",
            path, by);
    return std::string(entry->text);
  }
  std::ifstream file(root_ / path, std::ios::binary);
  require(file.is_open(),
          "[jit] no kernel file {} in {}{}. SWITCHYARD_KERNEL_DIR is the library's src folder.",
          path, root_.string(), by);
  return {std::istreambuf_iterator<char>(file), {}};
}

Closure Sources::closure(std::string_view path) const {
  std::map<std::string, std::string> texts;
  std::vector<Include> open = {{std::string(path), ""}};
  while (!open.empty()) {
    const Include next = std::move(open.back());
    open.pop_back();
    if (texts.contains(next.path)) continue;
    const SourceFile file{next.path, read(next.path, next.at)};
    for (Include& include : includes_of(file)) open.push_back(std::move(include));
    texts.emplace(file.path, file.text);
  }
  Closure closure;
  std::vector<std::string_view> parts;
  for (auto& [name, text] : texts) closure.files.push_back({name, std::move(text)});
  for (const SourceFile& file : closure.files) parts.insert(parts.end(), {file.path, file.text});
  closure.digest = digest(parts);
  return closure;
}

}  // namespace switchyard::jit
