// out[i] = factor * in[i], after the kernel before it in the stream has finished.
#pragma once

#include "scale/shared.cuh"

namespace switchyard::scale {

template <Config kConfig>
__global__ void __launch_bounds__(kConfig.threads) kernel(const __grid_constant__ Args args) {
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
  const int first = blockIdx.x * kConfig.per_block() + threadIdx.x;
#pragma unroll
  for (int i = 0; i < kConfig.per_thread; ++i)
    if (const int at = first + i * kConfig.threads; at < args.count)
      args.out[at] = args.factor * args.in[at];
}

/// Writes the blocks of this block's cluster and its dynamic shared memory in bytes.
__global__ void shape(const __grid_constant__ Args args) {
  unsigned cluster, smem;
  asm("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(cluster));
  asm("mov.u32 %0, %%dynamic_smem_size;" : "=r"(smem));
  args.out[2 * blockIdx.x] = cluster;
  args.out[2 * blockIdx.x + 1] = smem;
}

}  // namespace switchyard::scale
