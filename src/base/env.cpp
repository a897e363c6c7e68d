#include "base/env.h"

#include <algorithm>
#include <cstdlib>

#include "base/check.h"

namespace switchyard {
namespace {

constexpr EnvVar kEnv[] = {
    {"SWITCHYARD_CACHE_DIR", "$XDG_CACHE_HOME/switchyard",
     "where compiled kernels and tuning results live"},
    {"SWITCHYARD_JIT", "on",
     "on | off: off never compiles, what is not in the cache is Unsupported"},
    {"SWITCHYARD_KERNEL_DIR", "", "read kernel sources from this tree: edit, rerun, no rebuild"},
    {"SWITCHYARD_LOG", "off", "off | info | debug, to stderr"},
};

std::string value_of(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

}  // namespace

std::span<const EnvVar> env_vars() noexcept {
  return kEnv;
}

std::string env(std::string_view name) {
  const auto* entry = std::find_if(std::begin(kEnv), std::end(kEnv),
                                   [&](const EnvVar& var) { return var.name == name; });
  SWITCHYARD_ASSERT(entry != std::end(kEnv));
  return value_of(entry->name.data());
}

std::filesystem::path cache_directory() {
  if (const std::string own = env("SWITCHYARD_CACHE_DIR"); !own.empty()) return own;
  // The XDG rules: a relative XDG_CACHE_HOME is to be ignored.
  const std::filesystem::path xdg = value_of("XDG_CACHE_HOME");
  if (xdg.is_absolute()) return xdg / "switchyard";
  const std::filesystem::path home = value_of("HOME");
  return home.empty() ? home : home / ".cache" / "switchyard";
}

}  // namespace switchyard
