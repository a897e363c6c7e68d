#include "cli/usage.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

namespace switchyard::cli {
namespace {

std::vector<std::string> names_of_commands(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* const command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  return names;
}

std::vector<std::string> names_of_options(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* const option : command.get_options()) names.push_back(option->get_name());
  return names;
}

CLI::Validator number_up_to(std::int64_t limit) {
  const auto complain = [limit](const std::string& text) {
    std::int64_t value = -1;
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error == std::errc{} && stop == end && value >= 0 && value <= limit) return std::string();
    return fmt::format("expected a whole number from 0 to {}, got '{}'", limit, text);
  };
  return {complain, "", "count"};
}

}  // namespace

std::string usage_error(const CLI::App* app, const CLI::Error& error) {
  const std::vector<CLI::App*> picked = app->get_subcommands();
  if (picked.empty()) {
    const std::vector<std::string> words = app->remaining();
    return fmt::format(
        "switchyard: expected a command, one of {}; got {}. `switchyard --help` explains them.\n",
        fmt::join(names_of_commands(*app), " "),
        words.empty() ? "none" : fmt::format("'{}'", words.front()));
  }
  const CLI::App& command = *picked.front();
  const std::string& name = command.get_name();
  std::string text = error.what();
  const std::vector<std::string> words = app->remaining(/*recurse=*/true);
  if (dynamic_cast<const CLI::ExtrasError*>(&error) && !words.empty())
    text = fmt::format("'{}' is not expected here. The arguments are {}", words.front(),
                       fmt::join(names_of_options(command), " "));
  while (text.ends_with('\n') || text.ends_with('.')) text.pop_back();
  return fmt::format("switchyard: [{}] {}. `switchyard {} --help` explains it.\n", name, text,
                     name);
}

CLI::Validator count() {
  return number_up_to(std::numeric_limits<std::int32_t>::max());
}

CLI::Validator long_count() {
  return number_up_to(std::numeric_limits<std::int64_t>::max());
}

CLI::Validator part() {
  const auto complain = [](const std::string& text) {
    try {
      parse_part(text);
      return std::string();
    } catch (const InvalidArgument&) {
      return fmt::format(
          "expected RANK/RANKS with 0 <= RANK < RANKS (0/8 is the first of eight), got '{}'", text);
    }
  };
  return {complain, "", "part"};
}

CLI::Validator existing_file() {
  const auto complain = [](const std::string& text) {
    std::error_code ignored;
    if (std::filesystem::is_regular_file(text, ignored)) return std::string();
    return fmt::format("expected a file, got '{}'; check the path", text);
  };
  return {complain, "", "file"};
}

}  // namespace switchyard::cli
