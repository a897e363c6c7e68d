#include "switchyard/kernels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "jit/cache.h"
#include "jit/nvrtc.h"
#include "moe/gpu_programs.h"
#include "switchyard/error.h"
#include "tests/jit/support.h"

namespace switchyard::kernels {
namespace {

using testing::HasSubstr;

/// Sets an environment variable for the length of the scope.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    ::setenv(name, value.c_str(), 1);
  }
  ~Environment() {
    if (before_)
      ::setenv(name_, before_->c_str(), 1);
    else
      ::unsetenv(name_);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

class KernelsTest : public testing::Test {
 protected:
  jit::TemporaryFolder folder_;
  Environment cache_{"SWITCHYARD_CACHE_DIR", folder_.path()};
  const MoeProblem problem_ = parse_problem("moe t1 h64 i64 e4 k1 bf16 swiglu");
};

TEST_F(KernelsTest, AWarmCacheServesWithoutACompiler) {
  if (jit::nvrtc().declines) GTEST_SKIP() << *jit::nvrtc().declines;
  const std::vector<jit::Program> programs = moe::gpu_programs(problem_, 90);
  std::vector<std::int64_t> progress;
  WarmOptions options;
  options.progress = [&](std::int64_t done, std::int64_t total) {
    progress.push_back(done);
    EXPECT_EQ(total, static_cast<std::int64_t>(programs.size()));
  };
  const MoeProblem twice[] = {problem_, problem_};
  EXPECT_EQ(warm(twice, options).compiled, static_cast<int>(programs.size()));
  EXPECT_EQ(progress.size(), programs.size());
  EXPECT_EQ(list().size(), programs.size());

  const Environment off("SWITCHYARD_JIT", "off");
  jit::CacheOptions from_env = jit::cache_options_from_env();
  from_env.compiler = {.version = [] { return std::string(); },
                       .compile = [](const auto&, const auto&) -> jit::Binary {
                         throw std::logic_error("compiled");
                       }};
  jit::Cache cache(from_env);
  for (const jit::Program& program : programs) EXPECT_FALSE(cache.get(program)->cubin.empty());
  EXPECT_EQ(warm(twice).found, static_cast<int>(programs.size()));
  EXPECT_EQ(clear(), programs.size());
  EXPECT_TRUE(list().empty());
  EXPECT_THROW(warm(twice), Unsupported);
}

TEST_F(KernelsTest, WhatCannotBeWrittenIsAnError) {
  if (jit::nvrtc().declines) GTEST_SKIP() << *jit::nvrtc().declines;
  jit::spill(folder_.path() / "kernels", "in the way");
  try {
    warm({&problem_, 1});
    FAIL();
  } catch (const DeviceError& error) {
    EXPECT_THAT(error.what(), HasSubstr("cannot be written"));
  }
}

TEST_F(KernelsTest, DeclinesWithASentence) {
  EXPECT_EQ(declines(problem_, "sm_90a"), std::nullopt);
  EXPECT_THAT(*declines(problem_, "sm_80"), HasSubstr("sm_90"));
  const MoeProblem int4 = parse_problem("moe t1 h64 i64 e4 k1 int4_g32 swiglu");
  EXPECT_THAT(*declines(int4, "sm_90a"), HasSubstr("got int4_g32"));
  EXPECT_THROW(warm({&int4, 1}), Unsupported);
  for (const char* arch : {"", "sm_", "sm_90", "90", "sm_90ax", "sm_089"})
    EXPECT_THROW(declines(problem_, arch), InvalidArgument) << arch;
}

}  // namespace
}  // namespace switchyard::kernels
