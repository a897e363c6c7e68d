#pragma once

#include "device/half.cuh"
#include "jit/kernel.h"
#include "ops/repack/tiles.h"

/// Packing and unpacking on a GPU.
namespace switchyard::repack {

jit::Program program(const Config& config, int sm);

jit::Program norm_program(Half half, Weights weights, int sm);
jit::Program fp4_program(Weights weights, Direction direction, int sm);

/// For `experts` matrices that lie one behind the other on both sides; `kernel` is program()'s.
jit::Launch launch(const Matrix& matrix, int experts, jit::Kernel kernel);

}  // namespace switchyard::repack
