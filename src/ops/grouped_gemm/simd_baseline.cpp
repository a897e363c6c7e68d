#include "ops/grouped_gemm/simd_dot.h"

namespace switchyard::grouped_gemm {

const Kernels kBaseline = {.multiply = multiply, .multiply_fixed = nullptr};

}  // namespace switchyard::grouped_gemm
