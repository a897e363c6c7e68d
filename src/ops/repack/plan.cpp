#include "ops/repack/plan.h"

#include <fmt/format.h>

namespace switchyard::repack {

namespace {

std::string spelled(Direction direction) {
  return fmt::format("switchyard::repack::Direction::{}",
                     direction == Direction::pack ? "pack" : "unpack");
}

}  // namespace

jit::Program program(const Config& c, int sm) {
  return {.file = "ops/repack/kernel.cuh",
          .instance = fmt::format("switchyard::repack::kernel<switchyard::repack::Config{{{}}}>",
                                  spelled(c.direction)),
          .arch = jit::architecture(sm),
          .options = {}};
}

jit::Program fp4_program(Weights weights, Direction direction, int sm) {
  return {.file = "ops/repack/fp4_kernel.cuh",
          .instance = fmt::format("switchyard::repack::move_fp4<switchyard::Weights({}), {}>",
                                  static_cast<int>(weights), spelled(direction)),
          .arch = jit::architecture(sm),
          .options = {}};
}

jit::Program norm_program(Half half, Weights weights, int sm) {
  if (weights != Weights::half)
    return {.file = "ops/repack/fp4_kernel.cuh",
            .instance = fmt::format("switchyard::repack::norm_fp4<switchyard::Weights({})>",
                                    static_cast<int>(weights)),
            .arch = jit::architecture(sm),
            .options = {}};
  return {.file = "ops/repack/norm.cuh",
          .instance =
              fmt::format("switchyard::repack::norm<switchyard::Half({})>", static_cast<int>(half)),
          .arch = jit::architecture(sm),
          .options = {}};
}

jit::Launch launch(const Matrix& matrix, int experts, jit::Kernel kernel) {
  return {.kernel = std::move(kernel),
          .grid = {static_cast<unsigned>(tile_count(matrix)), static_cast<unsigned>(experts)},
          .block = {Config::kThreads},
          .cluster = {},
          .smem_bytes = 0,
          .overlap_previous = false};
}

}  // namespace switchyard::repack
