#include "jit/cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jit/nvrtc.h"
#include "switchyard/error.h"
#include "tests/jit/support.h"

namespace switchyard::jit {
namespace {

using testing::HasSubstr;

class CacheTest : public testing::Test {
 protected:
  CacheOptions options() {
    CacheOptions all = test_options(folder_.path());
    all.log = lines_.log();
    return all;
  }

  TemporaryFolder folder_;
  Lines lines_;
};

TEST(CacheKey, DiffersForEachOfItsParts) {
  const Digest closure = {.high = 1, .low = 2};
  const Program program = scale_program();
  const Digest key = cache_key(closure, program);
  EXPECT_EQ(key, cache_key(closure, program));
  EXPECT_NE(key, cache_key({.high = 1, .low = 3}, program));
  Program other = program;
  other.file = "scale/other.cuh";
  EXPECT_NE(key, cache_key(closure, other));
  other = program;
  other.instance = scale_program(128).instance;
  EXPECT_NE(key, cache_key(closure, other));
  other = program;
  other.arch = "sm_100a";
  EXPECT_NE(key, cache_key(closure, other));
  other = program;
  other.options = {"-lineinfo"};
  EXPECT_NE(key, cache_key(closure, other));
}

TEST_F(CacheTest, MemoryThenDiskThenCompiler) {
  const Program program = scale_program();
  Cache first(options());
  const auto binary = first.get(program);
  EXPECT_EQ(binary->cubin, made_up(program, "13.0").cubin);
  EXPECT_EQ(first.get(program), binary);
  EXPECT_EQ(first.stats(), (CacheStats{.memory = 1, .disk = 0, .compiled = 1}));

  Cache second(options());
  const auto again = second.get(program);
  EXPECT_EQ(second.stats(), (CacheStats{.memory = 0, .disk = 1, .compiled = 0}));
  EXPECT_EQ(again->cubin, binary->cubin);
  EXPECT_EQ(again->symbol, binary->symbol);
  EXPECT_EQ(again->compiler, binary->compiler);
  EXPECT_EQ(again->resources, binary->resources);
  EXPECT_EQ(lines_.get().size(), 0U);
}

TEST_F(CacheTest, AnotherCompilerVersionCompilesAgain) {
  Cache(options()).get(scale_program());
  CacheOptions newer = options();
  newer.compiler = made_up_compiler("13.1");
  Cache cache(newer);
  EXPECT_EQ(cache.get(scale_program())->compiler, "13.1");
  EXPECT_EQ(cache.stats().compiled, 1);
}

TEST_F(CacheTest, AnEditedIncludeCompilesAgain) {
  Cache(options()).get(scale_program());
  std::vector<EmbeddedSource> edited(test_sources().begin(), test_sources().end());
  for (EmbeddedSource& source : edited)
    if (source.path == "scale/shared.cuh") source.text = "// other Args\n";
  CacheOptions changed = options();
  changed.sources = Sources::embedded(edited);
  Cache cache(changed);
  cache.get(scale_program());
  EXPECT_EQ(cache.stats().compiled, 1);
}

TEST_F(CacheTest, OffServesWhatAnyCompilerMade) {
  for (const char* version : {"12.9", "13.10", "13.2"}) {
    CacheOptions made = options();
    made.compiler = made_up_compiler(version);
    Cache(made).get(scale_program());
  }
  CacheOptions off = options();
  off.compile = Compile::off;
  Cache cache(off);
  EXPECT_EQ(cache.get(scale_program())->compiler, "13.10");
  try {
    cache.get(scale_program(512));
    FAIL();
  } catch (const Unsupported& error) {
    EXPECT_THAT(error.what(), HasSubstr("SWITCHYARD_JIT is off"));
    EXPECT_THAT(error.what(), HasSubstr("filled elsewhere (SWITCHYARD_CACHE_DIR)"));
    EXPECT_THAT(error.what(), HasSubstr(folder_.path().string()));
  }
}

TEST_F(CacheTest, WithoutACompilerTheCacheStillServes) {
  Cache(options()).get(scale_program());
  CacheOptions none = options();
  none.compiler = {[] { return std::string(); },
                   [](const Program&, const Closure&) -> Binary {
                     throw Unsupported("[jit] no NVRTC: a sentence.");
                   }};
  Cache cache(none);
  EXPECT_EQ(cache.get(scale_program())->compiler, "13.0");
  EXPECT_THROW(cache.get(scale_program(512)), Unsupported);
}

TEST_F(CacheTest, AFailedCompilationIsTriedAgain) {
  int calls = 0;
  CacheOptions flaky = options();
  flaky.compiler.compile = [&](const Program& program, const Closure&) {
    if (++calls == 1) throw DeviceError("no luck");
    return made_up(program, "13.0");
  };
  Cache cache(flaky);
  EXPECT_THROW(cache.get(scale_program()), DeviceError);
  EXPECT_EQ(cache.get(scale_program())->symbol, made_up(scale_program(), "13.0").symbol);
}

TEST_F(CacheTest, ManyAtOnceKeepTheirOrder) {
  std::vector<Program> programs;
  for (int threads = 32; threads <= 512; threads += 32) programs.push_back(scale_program(threads));
  Cache cache(options());
  const auto binaries = cache.get(programs, 4);
  ASSERT_EQ(binaries.size(), programs.size());
  for (std::size_t i = 0; i < programs.size(); ++i)
    EXPECT_EQ(binaries[i]->cubin, made_up(programs[i], "13.0").cubin);
  EXPECT_EQ(cache.stats().compiled, 16);
  EXPECT_TRUE(cache.get(std::span<const Program>(), 4).empty());
}

TEST_F(CacheTest, ManyAtOnceThrowTheFailure) {
  CacheOptions failing = options();
  failing.compiler.compile = [](const Program& program, const Closure&) {
    if (program == scale_program(64)) throw DeviceError("64 does not compile");
    return made_up(program, "13.0");
  };
  Cache cache(failing);
  const std::vector<Program> programs = {scale_program(32), scale_program(64), scale_program(96)};
  EXPECT_THROW(cache.get(programs, 2), DeviceError);
}

TEST_F(CacheTest, AFileInTheWayCostsOneLine) {
  spill(folder_.path() / "file", "");
  CacheOptions blocked = options();
  blocked.directory = folder_.path() / "file" / "kernels";
  Cache cache(blocked);
  cache.get(scale_program(32));
  cache.get(scale_program(64));
  EXPECT_EQ(cache.get(scale_program(32))->symbol, made_up(scale_program(32), "13.0").symbol);
  ASSERT_EQ(lines_.get().size(), 1U);
  EXPECT_THAT(lines_.get()[0], HasSubstr("cannot be written"));
  EXPECT_THAT(lines_.get()[0], HasSubstr("SWITCHYARD_CACHE_DIR"));
}

/// Runs `body` in a process of its own, for what a process cannot undo; its exit status.
template <class Body>
int in_child(Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int lines_and_compilations(Cache& cache, const Lines& lines) {
  cache.get(scale_program(32));
  cache.get(scale_program(64));
  cache.get(scale_program(32));
  return static_cast<int>(10 * lines.get().size()) + cache.stats().compiled;
}

TEST_F(CacheTest, AReadOnlyFolderCostsOneLineAndIsStillRead) {
  Cache(options()).get(scale_program(512));
  std::filesystem::permissions(
      folder_.path(), std::filesystem::perms::others_all | std::filesystem::perms::owner_all);
  std::filesystem::permissions(folder_.path(), std::filesystem::perms(0555));
  const int status = in_child([&] {
    constexpr uid_t kNobody = 65534;
    if (::geteuid() == 0 && ::setuid(kNobody) != 0) return 99;
    Cache cache(options());
    cache.get(scale_program(512));
    if (cache.stats().disk != 1) return 98;
    return lines_and_compilations(cache, lines_);
  });
  std::filesystem::permissions(folder_.path(), std::filesystem::perms(0755));
  if (status == 99) GTEST_SKIP() << "this user cannot become another";
  EXPECT_EQ(status, 12) << "one line, two compilations";
}

TEST_F(CacheTest, AFullDiskCostsOneLineAndLeavesNothing) {
  const int status = in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {.rlim_cur = 16, .rlim_max = 16};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    Cache cache(options());
    return lines_and_compilations(cache, lines_);
  });
  EXPECT_EQ(status, 12) << "one line, two compilations";
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(CacheTest, EmptyDirectoryKeepsKernelsInMemory) {
  CacheOptions memory = options();
  memory.directory.clear();
  Cache cache(memory);
  cache.get(scale_program());
  cache.get(scale_program());
  EXPECT_EQ(cache.stats(), (CacheStats{.memory = 1, .disk = 0, .compiled = 1}));
  EXPECT_EQ(lines_.get().size(), 0U);
}

TEST(CacheOptions, ComeFromTheEnvironment) {
  ::setenv("SWITCHYARD_JIT", "off", 1);
  EXPECT_EQ(cache_options_from_env().compile, Compile::off);
  EXPECT_EQ(cache_options_from_env().directory.filename(), "kernels");
  ::setenv("SWITCHYARD_JIT", "maybe", 1);
  EXPECT_THROW(cache_options_from_env(), InvalidArgument);
  ::unsetenv("SWITCHYARD_JIT");
  EXPECT_EQ(cache_options_from_env().compile, Compile::on);
}

TEST_F(CacheTest, RealCompilerIsReadyFromDiskWithoutCompiling) {
  if (nvrtc().declines) GTEST_SKIP() << *nvrtc().declines;
  CacheOptions real = options();
  real.compiler = nvrtc_compiler();
  const std::vector<Program> programs = {scale_program(64), scale_program(128)};
  Cache cold(real), warm(real);
  const auto compiled = cold.get(programs, 2), read = warm.get(programs, 2);
  EXPECT_EQ(warm.stats().disk, 2);
  EXPECT_EQ(compiled[0]->cubin, read[0]->cubin);
  EXPECT_EQ(compiled[1]->resources, read[1]->resources);
}

}  // namespace
}  // namespace switchyard::jit
