// One of several processes that fill one cache folder at the same moment: process FOLDER.
// Exits with 0 if every kernel was right and the cache had nothing to say.
#include "tests/jit/support.h"

using namespace switchyard::jit;

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::filesystem::path folder = argv[1];
  Lines lines;
  CacheOptions options = test_options(folder);
  options.compiler = made_up_compiler("13.0", std::chrono::milliseconds(5));
  options.log = lines.log();
  Cache cache(options);
  while (!std::filesystem::exists(folder / "go"))
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  for (int threads = 64; threads <= 512; threads += 64) {
    const Program program = scale_program(threads);
    if (cache.get(program)->cubin != made_up(program, "13.0").cubin) return 3;
  }
  return lines.get().empty() ? 0 : 4;
}
