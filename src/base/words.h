#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/names.h"
#include "switchyard/weights.h"

/// Problem lines: "route t128 e256 k8 deepseek_v3 groups=8". A problem lists its fields once, in
/// `template <class Problem, class Line> void fields(Problem&, Line&)`, for both directions, so
/// that parse(to_string(p)) == p.
namespace switchyard {

/// The candidate with the smallest edit distance to `word`; empty if there are none.
std::string_view nearest(std::string_view word, const std::vector<std::string>& candidates);

/// Reads a line into fields. Every word must be claimed by a field, and by one only.
class LineParser {
 public:
  /// Throws InvalidArgument unless the first word of `line` is `op`.
  LineParser(std::string_view op, std::string_view line);
  LineParser(const LineParser&) = delete;  // the words point into line_
  LineParser& operator=(const LineParser&) = delete;

  /// "t128"; absent keeps `value`, which is an error if it is below `least`.
  void count(std::string_view letter, int& value, int least);
  /// "groups=8"
  void option(std::string_view key, int& value, int fallback, int least);
  void option(std::string_view key, float& value, float fallback);
  /// One of `words`, "routing_load=zipf"
  void option(std::string_view key, std::string& value, std::string_view fallback,
              std::span<const std::string_view> words);
  /// "bias"
  void flag(std::string_view key, bool& value);
  /// "ep=0/8"
  void part(std::string_view key, int& rank, int& ranks);
  /// "act=fp8_token"
  template <class E>
  void option(std::string_view key, E& value, E fallback, std::span<const Named<E>> names) {
    value = fallback;
    const std::string_view* text = claim_option(key);
    if (text) value = choose(key, *text, names);
  }
  /// A word without a key, such as "swiglu".
  template <class E>
  void word(E& value, std::span<const Named<E>> names) {
    bool given = false;
    for (const Named<E>& entry : names) {
      if (!claim(entry.name)) continue;
      require(!given, "[{}] '{}': a second word of its kind, after '{}'.", op_, entry.name,
              name_of(names, value));
      given = true;
      value = entry.value;
    }
  }
  /// "nvfp4", "int4_g32". Comes after the fields whose words a format's name could be.
  void word(WeightFormat& value);
  /// Throws InvalidArgument, with the nearest spelling, if a word is left.
  void finish() const;

 private:
  struct Word {
    std::string_view text;
    bool claimed = false;
  };

  std::vector<std::string_view> unclaimed() const;
  bool claim(std::string_view word);
  const std::string_view* claim_option(std::string_view key);
  template <class E>
  E choose(std::string_view key, std::string_view text, std::span<const Named<E>> names) const {
    if (const auto value = value_named(names, text)) return *value;
    std::vector<std::string> candidates;
    for (const Named<E>& entry : names) candidates.emplace_back(entry.name);
    throw InvalidArgument(
        fmt::format("[{}] {}: '{}' is not known. The nearest is '{}'; there are {}.", op_, key,
                    text, nearest(text, candidates), fmt::join(candidates, ", ")));
  }

  std::string op_;
  std::string line_;
  std::vector<Word> words_;
  std::string_view value_;  // of the option claimed last
  std::vector<std::string> known_;
};

/// Writes the same fields; options at their fallback are left out.
class LinePrinter {
 public:
  explicit LinePrinter(std::string_view op) : text_(op) {}

  void count(std::string_view letter, int value, int) { add("{}{}", letter, value); }
  void option(std::string_view key, int value, int fallback, int) {
    if (value != fallback) add("{}={}", key, value);
  }
  void option(std::string_view key, float value, float fallback) {
    if (value != fallback) add("{}={}", key, value);
  }
  void option(std::string_view key, std::string_view value, std::string_view fallback,
              std::span<const std::string_view>) {
    if (value != fallback) add("{}={}", key, value);
  }
  void flag(std::string_view key, bool value) {
    if (value) add("{}", key);
  }
  void part(std::string_view key, int rank, int ranks) {
    if (ranks != 1) add("{}={}/{}", key, rank, ranks);
  }
  template <class E>
  void option(std::string_view key, E value, E fallback, std::span<const Named<E>> names) {
    if (value != fallback) add("{}={}", key, name_of(names, value));
  }
  template <class E>
  void word(E value, std::span<const Named<E>> names) {
    add("{}", name_of(names, value));
  }
  void word(const WeightFormat& value) { add("{}", to_string(value)); }
  const std::string& text() const { return text_; }

 private:
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    text_ += ' ';
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
  }

  std::string text_;
};

}  // namespace switchyard
