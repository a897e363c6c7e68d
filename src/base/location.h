#pragma once

namespace switchyard {

/// A place in the source: std::source_location, which clang 14 lacks.
struct Location {
  const char* file;
  int line;

  static constexpr Location current(const char* file = __builtin_FILE(),
                                    int line = __builtin_LINE()) {
    return {file, line};
  }
};

}  // namespace switchyard
