#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace switchyard {

/// An environment variable of the library, as `switchyard --help env` prints it.
struct EnvVar {
  std::string_view name, standard, text;
};

/// All of them; nothing else in the library reads the environment.
std::span<const EnvVar> env_vars() noexcept;

/// The value of a variable of the table; empty if it is not set.
std::string env(std::string_view name);

/// SWITCHYARD_CACHE_DIR, else $XDG_CACHE_HOME/switchyard, else ~/.cache/switchyard; empty if there
/// is no home either.
std::filesystem::path cache_directory();

}  // namespace switchyard
