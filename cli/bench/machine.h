#pragma once

#include "cuda/memory.h"
#include "cuda/stream.h"
#include "jit/kernel.h"
#include "moe/gpu_timer.h"

namespace switchyard::cli::bench {

/// The first GPU, a stream of it, and its kernels.
struct Machine {
  Machine();
  cuda::Context context;
  cuda::Current current;
  cuda::Stream stream;
  jit::Loader loader;
  moe::GpuTimer timer;
};

/// What the machine can do at best, measured in the run that is compared with it.
struct Ceilings {
  double read_tbs = 0;    ///< reading 4 GiB
  double mma_tflops = 0;  ///< cuBLAS, bf16 x bf16 in f32, random data, the better of two sizes
};
/// Throws Unsupported, with the way out, without cuBLAS.
Ceilings measure_ceilings(Machine& machine);

}  // namespace switchyard::cli::bench
