#include <switchyard/switchyard.h>
#include <cstdio>

// A user's program: it must link everything the library needs, index reader included.
int main() {
  const switchyard::CheckReport report =
      switchyard::check(switchyard::parse_problem("moe t4 h64 i32 e4 k2 nvfp4 swiglu"), /*seed=*/7);
  try {
    switchyard::Checkpoint::open("no such directory");
    return 1;
  } catch (const switchyard::InvalidArgument&) {
  }
  std::printf("switchyard %s: error %.2f\n", switchyard::version(), report.error_ratio);
  return report.passed ? 0 : 1;
}
