// One block copies the box at (column, row) of a tensor map to shared memory and from there to out.
#pragma once

namespace switchyard::tile {

struct alignas(128) TensorMap {
  unsigned long long opaque[16];
};

struct Args {
  TensorMap map;       // of a [rows, columns] u8 tensor
  unsigned char* out;  // [kRows, kColumns]
  int column, row;
};

template <int kRows, int kColumns>
__global__ void kernel(const __grid_constant__ Args args) {
  __shared__ alignas(128) unsigned char box[kRows * kColumns];
  __shared__ alignas(8) unsigned long long barrier;
  const unsigned to = __cvta_generic_to_shared(box), full = __cvta_generic_to_shared(&barrier);
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(full));
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(full),
                 "r"(kRows * kColumns)
                 : "memory");
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3}], [%4];" ::"r"(to),
        "l"(&args.map), "r"(args.column), "r"(args.row), "r"(full)
        : "memory");
  }
  __syncthreads();
  unsigned done = 0;
  while (!done)
    asm volatile(
        "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; "
        "selp.u32 %0, 1, 0, p; }"
        : "=r"(done)
        : "r"(full)
        : "memory");
  for (int i = threadIdx.x; i < kRows * kColumns; i += blockDim.x) args.out[i] = box[i];
}

}  // namespace switchyard::tile
