#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"

namespace switchyard::jit {

/// A kernel file that the build put into the library, by its path below src/.
struct EmbeddedSource {
  std::string_view path, text;
};

/// All of them; written by cmake/embed_sources.cmake.
std::span<const EmbeddedSource> embedded_sources();

struct SourceFile {
  std::string path, text;
};

/// A kernel file and everything it includes, directly or not.
struct Closure {
  std::vector<SourceFile> files;  // by path
  Digest digest;                  // of paths and texts
};

/// Where kernel files come from: a table in memory, or a directory.
class Sources {
 public:
  /// The embedded table, or the directory SWITCHYARD_KERNEL_DIR if that is set.
  static Sources library();
  static Sources embedded(std::span<const EmbeddedSource> table);
  static Sources directory(std::filesystem::path root);

  /// Reads `path` and follows every #include "...", which names a path below the same root.
  /// Throws InvalidArgument, naming the line that includes it, for a file that is not there.
  Closure closure(std::string_view path) const;

 private:
  std::string read(std::string_view path, std::string_view included_at) const;

  std::span<const EmbeddedSource> table_;
  std::filesystem::path root_;  // empty: the table
};

}  // namespace switchyard::jit
