#include "ops/grouped_gemm/simd_dot.h"
#include "ops/grouped_gemm/simd_fixed.h"

namespace switchyard::grouped_gemm {

const Kernels kAvx2 = {.multiply = multiply, .multiply_fixed = multiply_fixed};

}  // namespace switchyard::grouped_gemm
