#include "ops/grouped_gemm/simd_dot.h"
#include "ops/grouped_gemm/simd_fixed.h"
#include "ops/grouped_gemm/simd_to_fixed.h"

namespace switchyard::grouped_gemm {

const Kernels kAvx2 = {
    .multiply = multiply, .multiply_fixed = multiply_fixed, .to_fixed = to_fixed};

}  // namespace switchyard::grouped_gemm
