#include "base/words.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

namespace switchyard {
namespace {

constexpr std::size_t kLongestWord = 64;
constexpr int kLargestCount = 1 << 30;

/// The formats that finish() suggests.
constexpr std::string_view kFormats[] = {
    "f32",   "bf16",  "fp16",  "fp8_tensor", "fp8_channel", "fp8_block", "fp8_block32",
    "mxfp8", "nvfp4", "mxfp4", "int4",       "int4_g32",    "int4_g128"};

template <class T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replace = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replace, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::optional<WeightFormat> format_named(std::string_view word) {
  try {
    return weight_format(word);
  } catch (const InvalidArgument&) {
    return std::nullopt;
  }
}

}  // namespace

std::string_view nearest(std::string_view word, const std::vector<std::string>& candidates) {
  word = word.substr(0, kLongestWord);
  std::string_view best;
  std::size_t least = static_cast<std::size_t>(-1);
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance >= least) continue;
    least = distance;
    best = candidate;
  }
  return best;
}

LineParser::LineParser(std::string_view op, std::string_view line) : op_(op), line_(line) {
  const std::string_view text = line_;
  constexpr std::string_view kBlank = " \t\r\n";
  for (std::size_t at = text.find_first_not_of(kBlank); at != std::string_view::npos;) {
    const std::size_t end = std::min(text.find_first_of(kBlank, at), text.size());
    require(end - at <= kLongestWord, "[{}] word {}: expected at most {} characters, got {}.", op,
            words_.size() + 1, kLongestWord, end - at);
    words_.push_back({text.substr(at, end - at)});
    at = text.find_first_not_of(kBlank, end);
  }
  require(!words_.empty() && words_.front().text == op,
          "[{}] problem line: expected it to begin with '{}', got '{}'.", op, op,
          words_.empty() ? "" : words_.front().text);
  words_.front().claimed = true;
}

void LineParser::count(std::string_view letter, int& value, int least) {
  known_.push_back(fmt::format("{}N", letter));
  bool given = false;
  for (Word& word : words_) {
    if (word.claimed || !word.text.starts_with(letter)) continue;
    const std::optional<int> parsed = number<int>(word.text.substr(letter.size()));
    if (!parsed) continue;  // another field's word: "int4_g32" is not i
    require(!given, "[{}] {}: given twice, the second time as '{}'.", op_, letter, word.text);
    require(*parsed >= least && *parsed <= kLargestCount,
            "[{}] {}: expected a count from {} to 2^30, got {}.", op_, letter, least, *parsed);
    word.claimed = given = true;
    value = *parsed;
  }
  require(value >= least, "[{}] {}: missing. Write it as {}{}.", op_, letter, letter,
          std::max(least, 1));
}

bool LineParser::claim(std::string_view text) {
  known_.emplace_back(text);
  bool given = false;
  for (Word& word : words_) {
    if (word.text != text) continue;
    require(!given, "[{}] '{}': given twice.", op_, text);
    word.claimed = given = true;
  }
  return given;
}

const std::string_view* LineParser::claim_option(std::string_view key) {
  known_.push_back(fmt::format("{}=", key));
  bool given = false;
  for (Word& word : words_) {
    if (word.text.size() <= key.size() || !word.text.starts_with(key) ||
        word.text[key.size()] != '=')
      continue;
    require(!given, "[{}] {}: given twice.", op_, key);
    word.claimed = given = true;
    value_ = word.text.substr(key.size() + 1);
  }
  return given ? &value_ : nullptr;
}

void LineParser::option(std::string_view key, int& value, int fallback, int least) {
  value = fallback;
  const std::string_view* text = claim_option(key);
  if (!text) return;
  const std::optional<int> parsed = number<int>(*text);
  require(parsed && *parsed >= least && *parsed <= kLargestCount,
          "[{}] {}: expected a number from {} to 2^30, got '{}'.", op_, key, least, *text);
  value = *parsed;
}

void LineParser::option(std::string_view key, float& value, float fallback) {
  value = fallback;
  const std::string_view* text = claim_option(key);
  if (!text) return;
  const std::optional<float> parsed = number<float>(*text);
  require(parsed && !std::isnan(*parsed), "[{}] {}: expected a number, got '{}'.", op_, key, *text);
  value = *parsed;
}

void LineParser::option(std::string_view key, std::string& value, std::string_view fallback,
                        std::span<const std::string_view> words) {
  value = fallback;
  const std::string_view* text = claim_option(key);
  if (!text) return;
  value = *text;
  const bool known = std::find(words.begin(), words.end(), *text) != words.end();
  require(known, "[{}] {}: '{}' is not known. The nearest is '{}'; there are {}.", op_, key, *text,
          nearest(*text, {words.begin(), words.end()}), fmt::join(words, ", "));
}

void LineParser::flag(std::string_view key, bool& value) {
  value = claim(key);
}

void LineParser::part(std::string_view key, int& rank, int& ranks) {
  rank = 0;
  ranks = 1;
  const std::string_view* text = claim_option(key);
  if (!text) return;
  const std::size_t slash = text->find('/');
  const int parsed_rank = number<int>(text->substr(0, slash)).value_or(-1);
  const int parsed_ranks =
      slash == std::string_view::npos ? 0 : number<int>(text->substr(slash + 1)).value_or(0);
  require(parsed_rank >= 0 && parsed_rank < parsed_ranks && parsed_ranks <= kLargestCount,
          "[{}] {}: expected RANK/RANKS with 0 <= RANK < RANKS, got '{}'.", op_, key, *text);
  rank = parsed_rank;
  ranks = parsed_ranks;
}

void LineParser::word(WeightFormat& value) {
  known_.insert(known_.end(), std::begin(kFormats), std::end(kFormats));
  bool given = false;
  for (const std::string_view word : unclaimed()) {
    const std::optional<WeightFormat> named = format_named(word);
    if (!named) continue;  // finish() knows more spellings
    require(!given, "[{}] '{}': a second weight format.", op_, word);
    value = *named;
    given = claim(word);
  }
}

std::vector<std::string_view> LineParser::unclaimed() const {
  std::vector<std::string_view> left;
  for (const Word& word : words_)
    if (!word.claimed) left.push_back(word.text);
  return left;
}

void LineParser::finish() const {
  const std::vector<std::string_view> left = unclaimed();
  if (left.empty()) return;
  const std::string_view key = left.front().substr(0, left.front().find('=') + 1);
  const std::string_view spelling = nearest(key.empty() ? left.front() : key, known_);
  throw InvalidArgument(
      fmt::format("[{}] word '{}': not known here, or a second one of its kind. "
                  "The nearest spelling is '{}'.",
                  op_, left.front(), spelling));
}

}  // namespace switchyard
