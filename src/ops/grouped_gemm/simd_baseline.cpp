#include "ops/grouped_gemm/simd_dot.h"
#include "ops/grouped_gemm/simd_to_fixed.h"

namespace switchyard::grouped_gemm {

const Kernels kBaseline = {.multiply = multiply, .multiply_fixed = nullptr, .to_fixed = to_fixed};

}  // namespace switchyard::grouped_gemm
