#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <barrier>

#include "tests/jit/support.h"

namespace switchyard::jit {
namespace {

using std::chrono::milliseconds;

TEST(Race, SixteenThreadsCompileOnce) {
  constexpr int kThreads = 16;
  const TemporaryFolder folder;
  CacheOptions options = test_options(folder.path());
  options.compiler = made_up_compiler("13.0", milliseconds(20));
  Cache cache(options);
  std::barrier start(kThreads);
  std::vector<std::shared_ptr<const Binary>> got(kThreads);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i)
      threads.emplace_back([&, i] {
        start.arrive_and_wait();
        got[static_cast<std::size_t>(i)] = cache.get(scale_program());
      });
  }
  EXPECT_EQ(cache.stats(), (CacheStats{.memory = kThreads - 1, .disk = 0, .compiled = 1}));
  for (const auto& binary : got) EXPECT_EQ(binary, got[0]);
}

TEST(Race, ThreadsOfManyCachesShareOneFolder) {
  const TemporaryFolder folder;
  Lines lines;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      CacheOptions options = test_options(folder.path());
      options.compiler = made_up_compiler("13.0", milliseconds(1));
      options.log = lines.log();
      Cache cache(options);
      for (int size = 32; size <= 512; size += 32)
        EXPECT_EQ(cache.get(scale_program(size))->cubin,
                  made_up(scale_program(size), "13.0").cubin);
    });
  threads.clear();
  EXPECT_EQ(Store(folder.path(), {}).list().size(), 16U);
  EXPECT_EQ(lines.get().size(), 0U);
}

/// Runs tests/jit/process.cpp on a cache folder; it waits for FOLDER/go.
pid_t start_process(const std::filesystem::path& folder) {
  std::string program = std::filesystem::read_symlink("/proc/self/exe").parent_path() /
                        "switchyard_jit_process",
              argument = folder.string();
  char* arguments[] = {program.data(), argument.data(), nullptr};
  pid_t process = -1;
  EXPECT_EQ(::posix_spawn(&process, program.c_str(), nullptr, nullptr, arguments, environ), 0);
  return process;
}

TEST(Race, ProcessesShareOneFolder) {
  const TemporaryFolder folder;
  std::vector<pid_t> processes;
  for (int i = 0; i < 4; ++i) processes.push_back(start_process(folder.path()));
  spill(folder.path() / "go", "");
  for (const pid_t process : processes) {
    int status = -1;
    ::waitpid(process, &status, 0);
    EXPECT_EQ(status, 0) << "wrong code, or a log line, in process " << process;
  }
  const Store store(folder.path(), {});
  EXPECT_EQ(store.list().size(), 8U);
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    EXPECT_FALSE(entry.path().filename().string().starts_with(".aside")) << entry.path();
}

}  // namespace
}  // namespace switchyard::jit
