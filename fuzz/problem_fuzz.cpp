// Any text either parses, and then round-trips, or is refused with InvalidArgument.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "ops/route/problem.h"
#include "switchyard/error.h"
#include "switchyard/problem.h"

namespace {

template <class Parse>
void round_trip(Parse parse, std::string_view text) {
  try {
    const auto problem = parse(text);
    if (!(parse(to_string(problem)) == problem)) std::abort();
  } catch (const switchyard::InvalidArgument&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  round_trip(switchyard::parse_problem, text);
  round_trip(switchyard::route::parse, text);
  return 0;
}
