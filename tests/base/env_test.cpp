#include "base/env.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace switchyard {
namespace {

/// Sets a variable until the end of the scope.
class Scoped {
 public:
  Scoped(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    ::setenv(name, value, 1);
  }
  ~Scoped() {
    if (before_)
      ::setenv(name_, before_->c_str(), 1);
    else
      ::unsetenv(name_);
  }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

TEST(Env, ReadsOnlyWhatTheTableHas) {
  const Scoped set("SWITCHYARD_KERNEL_DIR", "/some/where");
  EXPECT_EQ(env("SWITCHYARD_KERNEL_DIR"), "/some/where");
  EXPECT_THROW(env("PATH"), std::logic_error);
}

TEST(Env, CacheDirectory) {
  const Scoped home("HOME", "/home/someone"), xdg("XDG_CACHE_HOME", "");
  const Scoped none("SWITCHYARD_CACHE_DIR", "");
  EXPECT_EQ(cache_directory(), "/home/someone/.cache/switchyard");
  {
    const Scoped relative("XDG_CACHE_HOME", "not/absolute");
    EXPECT_EQ(cache_directory(), "/home/someone/.cache/switchyard");
  }
  const Scoped standard("XDG_CACHE_HOME", "/var/cache");
  EXPECT_EQ(cache_directory(), "/var/cache/switchyard");
  const Scoped own("SWITCHYARD_CACHE_DIR", "/scratch/kernels");
  EXPECT_EQ(cache_directory(), "/scratch/kernels");
  const Scoped nothing[] = {{"HOME", ""}, {"XDG_CACHE_HOME", ""}, {"SWITCHYARD_CACHE_DIR", ""}};
  EXPECT_EQ(cache_directory(), "");
}

TEST(Env, NothingElseReadsTheEnvironment) {
  for (const auto& file :
       std::filesystem::recursive_directory_iterator(SWITCHYARD_SOURCE_DIR "/src")) {
    if (!file.is_regular_file() || file.path().filename() == "env.cpp") continue;
    std::ifstream stream(file.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(stream), {}};
    EXPECT_EQ(text.find("getenv"), std::string::npos) << file.path();
  }
}

}  // namespace
}  // namespace switchyard
