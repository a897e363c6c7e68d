#include "ops/finalize/plan.h"

#include <fmt/format.h>

#include "base/math.h"

namespace switchyard::finalize {

std::string to_string(const Config& c) {
  return c.weighted ? "weighted" : "plain";
}

jit::Program program(const Config& c, int sm) {
  return {.file = "ops/finalize/kernel.cuh",
          .instance = fmt::format("switchyard::finalize::kernel<switchyard::finalize::Config{{"
                                  "switchyard::Half({}), {}}}>",
                                  static_cast<int>(c.half), c.weighted),
          .arch = jit::architecture(sm),
          .options = {}};
}

jit::Launch launch(int tokens, int hidden, jit::Kernel kernel) {
  return {.kernel = std::move(kernel),
          .grid = {static_cast<unsigned>(tokens),
                   static_cast<unsigned>(ceil_div(hidden, Config::kWidth))},
          .block = {Config::kThreads},
          .cluster = {},
          .smem_bytes = 0,
          .overlap_previous = true};
}

}  // namespace switchyard::finalize
