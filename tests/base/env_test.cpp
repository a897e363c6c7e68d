#include "base/env.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

namespace switchyard {
namespace {

/// Gives the process its environment back at the end of the scope.
class Restored {
 public:
  Restored() {
    for (char** entry = environ; *entry != nullptr; ++entry) before_.emplace_back(*entry);
  }
  ~Restored() {
    ::clearenv();
    for (const std::string& entry : before_) {
      const std::size_t equals = entry.find('=');
      ::setenv(entry.substr(0, equals).c_str(), entry.substr(equals + 1).c_str(), 1);
    }
  }
  Restored(const Restored&) = delete;
  Restored& operator=(const Restored&) = delete;

 private:
  std::vector<std::string> before_;
};

TEST(Env, ReadsOnlyWhatTheTableHas) {
  const Restored restored;
  ::setenv("SWITCHYARD_KERNEL_DIR", "/some/where", 1);
  EXPECT_EQ(env("SWITCHYARD_KERNEL_DIR"), "/some/where");
  ::unsetenv("SWITCHYARD_KERNEL_DIR");
  EXPECT_EQ(env("SWITCHYARD_KERNEL_DIR"), "");
  EXPECT_THROW(env("PATH"), std::logic_error);
}

TEST(Env, CacheDirectory) {
  const Restored restored;
  ::clearenv();
  EXPECT_EQ(cache_directory(), "");
  ::setenv("HOME", "/home/someone", 1);
  EXPECT_EQ(cache_directory(), "/home/someone/.cache/switchyard");
  ::setenv("XDG_CACHE_HOME", "not/absolute", 1);
  EXPECT_EQ(cache_directory(), "/home/someone/.cache/switchyard");
  ::setenv("XDG_CACHE_HOME", "/var/cache", 1);
  EXPECT_EQ(cache_directory(), "/var/cache/switchyard");
  ::setenv("SWITCHYARD_CACHE_DIR", "/scratch/kernels", 1);
  EXPECT_EQ(cache_directory(), "/scratch/kernels");
}

}  // namespace
}  // namespace switchyard
