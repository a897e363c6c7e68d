// Every asm statement of the library. One function an instruction, named for what it does; PTX ISA
// sections in brackets. All in one file, however long: nobody looks for asm elsewhere.
// Shared-memory addresses are 32-bit (`smem_u32`).
#pragma once

#include "device/half.cuh"
#include "device/types.cuh"

namespace switchyard::ptx {

__device__ inline uint32 smem_u32(const void* pointer) {
  return static_cast<uint32>(__cvta_generic_to_shared(pointer));
}

/// A value that a whole warp has in common, in a register from here on: else ptxas computes shared
/// addresses again wherever they are used, which takes it a read of a special register.
__device__ inline uint32 keep(uint32 value) {
  return __shfl_sync(~0u, value, 0);
}

// --- mbarrier [9.7.13.15] ---------------------------------------------------------------------

__device__ inline void mbarrier_init(uint32 barrier, uint32 arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

/// Makes initialised barriers visible to the copy engine and the cluster.
__device__ inline void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ inline void mbarrier_arrive(uint32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// Arrives at the barrier at this CTA's shared address `barrier`, of CTA `rank` of the cluster.
__device__ inline void mbarrier_arrive_peer(uint32 barrier, uint32 rank) {
  asm volatile(
      "{ .reg .u32 at; mapa.shared::cluster.u32 at, %0, %1; mbarrier.arrive.shared::cluster.b64 _, "
      "[at]; }" ::"r"(barrier),
      "r"(rank)
      : "memory");
}

/// Arrives and announces `bytes` that copies will deliver.
__device__ inline void mbarrier_arrive_expect(uint32 barrier, uint32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

/// Arrives once this thread's earlier cp.async copies have landed.
__device__ inline void mbarrier_arrive_copies(uint32 barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

__device__ inline bool mbarrier_try_wait(uint32 barrier, uint32 parity) {
  uint32 done;
  asm volatile(
      "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; "
      "}"
      : "=r"(done)
      : "r"(barrier), "r"(parity)
      : "memory");
  return done != 0;
}

// --- copies -----------------------------------------------------------------------------------

/// `bytes` (a multiple of 16) from global to shared memory by the copy engine [cp.async.bulk].
__device__ inline void copy_bulk(uint32 to, const void* from, uint32 bytes, uint32 barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

/// The same for data that is read once: evicted first from L2.
__device__ inline void copy_bulk_streaming(uint32 to, const void* from, uint32 bytes,
                                           uint32 barrier, uint64 policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], "
      "[%1], %2, [%3], %4;" ::"r"(to),
      "l"(from), "r"(bytes), "r"(barrier), "l"(policy)
      : "memory");
}

/// Into every CTA of the cluster whose bit is set in `ranks`, at the same shared addresses.
__device__ inline void copy_bulk_multicast(uint32 to, const void* from, uint32 bytes,
                                           uint32 barrier, uint16 ranks, uint64 policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
      ".L2::cache_hint [%0], [%1], %2, [%3], %4, %5;" ::"r"(to),
      "l"(from), "r"(bytes), "r"(barrier), "h"(ranks), "l"(policy)
      : "memory");
}

__device__ inline uint64 policy_evict_normal() {
  uint64 policy;
  asm volatile("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ inline uint64 policy_evict_first() {
  uint64 policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

/// 16 bytes; zeros instead if `bytes` is 0.
__device__ inline void copy_16(uint32 to, const void* from, uint32 bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}

__device__ inline uint32 load_shared(uint32 address) {
  uint32 word;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(address));
  return word;
}
__device__ inline uint4 load_shared_4(uint32 address) {
  uint4 words;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
               : "r"(address));
  return words;
}
__device__ inline uint2 load_shared_2(uint32 address) {
  uint2 words;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(words.x), "=r"(words.y) : "r"(address));
  return words;
}

/// Orders this thread's view of shared memory before the tensor cores' [fence.proxy.async].
__device__ inline void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Orders this thread's view of global memory before later bulk copies.
__device__ inline void fence_proxy_async_global() {
  asm volatile("fence.proxy.async.global;" ::: "memory");
}

/// Of both halves the larger, as unsigned integers.
__device__ inline uint32 max_u16x2(uint32 a, uint32 b) {
  uint32 larger;
  asm("max.u16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  return larger;
}

// --- grid and memory order --------------------------------------------------------------------

/// Waits for the kernels that this launch depends on [griddepcontrol].
__device__ inline void wait_previous_kernel() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}
__device__ inline void launch_dependents() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

/// Gives up, with an error that the host sees.
__device__ inline void trap() {
  asm volatile("trap;");
}
/// Nanoseconds.
__device__ inline uint64 global_time() {
  uint64 now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}

__device__ inline uint32 load_acquire(const uint32* address) {
  uint32 value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}
__device__ inline void store_release(uint32* address, uint32 value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}
__device__ inline uint64 load_acquire(const uint64* address) {
  uint64 value;
  asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
  return value;
}
__device__ inline void store_relaxed(uint64* address, uint64 value) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}
__device__ inline void store_release(uint64* address, uint64 value) {
  asm volatile("st.release.gpu.global.u64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}
__device__ inline void add_release(uint64* address, uint64 value) {
  asm volatile("red.release.gpu.global.add.u64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}
__device__ inline void add_release(uint32* address, uint32 value) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}

__device__ inline void reduce_max(uint32* address, uint32 value) {
  asm volatile("red.relaxed.gpu.global.max.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}
__device__ inline void reduce_add(uint64* address, uint64 value) {
  asm volatile("red.relaxed.gpu.global.add.u64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}

__device__ inline void bar_sync(uint32 id, uint32 threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// --- clusters [9.7.13.4]        ----------------------------------------------------------

__device__ inline uint32 cluster_rank() {
  uint32 rank;
  asm("mov.u32 %0, %cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline uint32 cluster_size() {
  uint32 size;
  asm("mov.u32 %0, %cluster_nctarank;" : "=r"(size));
  return size;
}
/// Everything that CTAs of the cluster wrote before is visible after.
__device__ inline void cluster_sync() {
  asm volatile(
      "barrier.cluster.arrive.release;\n"
      "barrier.cluster.wait.acquire;" ::
          : "memory");
}
/// The word at this CTA's shared address `local`, of CTA `rank`.
__device__ inline uint32 load_peer(uint32 local, uint32 rank) {
  uint32 value;
  asm volatile(
      "{ .reg .u32 at; mapa.shared::cluster.u32 at, %1, %2; ld.shared::cluster.u32 %0, [at]; }"
      : "=r"(value)
      : "r"(local), "r"(rank)
      : "memory");
  return value;
}

// --- floating point: 2 units in the last place, denormals are zeros ----------------------------

__device__ inline float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ inline uint32 multiply_bf16x2(uint32 a, uint32 b) {
  uint32 product;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
  return product;
}
/// The lower half of `pair` twice. An operand's modifier, not an instruction.
__device__ inline uint32 both_low(uint32 pair) {
  uint32 twice;
  asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; mov.b32 %0, {l, l}; }" : "=r"(twice) : "r"(pair));
  return twice;
}
__device__ inline uint32 both_high(uint32 pair) {
  uint32 twice;
  asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; mov.b32 %0, {h, h}; }" : "=r"(twice) : "r"(pair));
  return twice;
}

// --- registers --------------------------------------------------------------------------------

/// Of a warpgroup: takes or gives registers, so that every thread has kRegisters [setmaxnreg].
template <int kRegisters>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// --- mma [9.7.14] -------------------------------------------------------------------------------

/// Four 8 x 8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
__device__ inline uint4 load_matrices(uint32 address) {
  uint4 words;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
               : "r"(address));
  return words;
}

/// Four 8 x 8 matrices as mma's accumulators have them, pairs of columns in 16 bits each,
/// transposed: lane i gives the address of column i % 8 of matrix i / 8.
__device__ inline void store_matrices_transposed(uint32 address, const uint32 (&words)[4]) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
      "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
      : "memory");
}

/// d[16, 8] += a[16, 16] b[8, 16]^T of a warp.
template <Half kHalf>
__device__ inline void mma(float* d, const uint32 (&a)[4], uint32 b0, uint32 b1) {
  if constexpr (kHalf == Half::bf16)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// --- wgmma [9.7.15] ---------------------------------------------------------------------------

__device__ inline void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// After the last wait: whatever reads the accumulators stays behind it. Without this the compiler,
/// which takes them for written when wgmma is issued, may copy them before the wait.
template <int kCount>
__device__ inline void pin(float (&accumulators)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(accumulators[i])::"memory");
}

/// d[64, N] += a[64, 16] b[N, 16]^T, 16-bit floats in shared memory behind descriptors, or `a` in
/// registers; f32 in registers; N is 8, 16, 32, 64, 96, 128, 144,
/// 160, 176 or 256.
template <int kN, Half kHalf>
struct Wgmma;

// The operand lists %0 .. %127, eight to a name.
#define SWITCHYARD_R0 "%0, %1, %2, %3, %4, %5, %6, %7"
#define SWITCHYARD_R1 "%8, %9, %10, %11, %12, %13, %14, %15"
#define SWITCHYARD_R2 "%16, %17, %18, %19, %20, %21, %22, %23"
#define SWITCHYARD_R3 "%24, %25, %26, %27, %28, %29, %30, %31"
#define SWITCHYARD_R4 "%32, %33, %34, %35, %36, %37, %38, %39"
#define SWITCHYARD_R5 "%40, %41, %42, %43, %44, %45, %46, %47"
#define SWITCHYARD_R6 "%48, %49, %50, %51, %52, %53, %54, %55"
#define SWITCHYARD_R7 "%56, %57, %58, %59, %60, %61, %62, %63"
#define SWITCHYARD_R8 "%64, %65, %66, %67, %68, %69, %70, %71"
#define SWITCHYARD_R9 "%72, %73, %74, %75, %76, %77, %78, %79"
#define SWITCHYARD_R10 "%80, %81, %82, %83, %84, %85, %86, %87"
#define SWITCHYARD_R11 "%88, %89, %90, %91, %92, %93, %94, %95"
#define SWITCHYARD_R12 "%96, %97, %98, %99, %100, %101, %102, %103"
#define SWITCHYARD_R13 "%104, %105, %106, %107, %108, %109, %110, %111"
#define SWITCHYARD_R14 "%112, %113, %114, %115, %116, %117, %118, %119"
#define SWITCHYARD_R15 "%120, %121, %122, %123, %124, %125, %126, %127"
#define SWITCHYARD_R_16 SWITCHYARD_R0 ", " SWITCHYARD_R1
#define SWITCHYARD_R_32 SWITCHYARD_R_16 ", " SWITCHYARD_R2 ", " SWITCHYARD_R3
#define SWITCHYARD_R_64 \
  SWITCHYARD_R_32 ", " SWITCHYARD_R4 ", " SWITCHYARD_R5 ", " SWITCHYARD_R6 ", " SWITCHYARD_R7
#define SWITCHYARD_R_48 SWITCHYARD_R_32 ", " SWITCHYARD_R4 ", " SWITCHYARD_R5
#define SWITCHYARD_R_72 SWITCHYARD_R_64 ", " SWITCHYARD_R8
#define SWITCHYARD_R_80 SWITCHYARD_R_72 ", " SWITCHYARD_R9
#define SWITCHYARD_R_88 SWITCHYARD_R_72 ", " SWITCHYARD_R9 ", " SWITCHYARD_R10
#define SWITCHYARD_R_128                                                                        \
  SWITCHYARD_R_64 ", " SWITCHYARD_R8 ", " SWITCHYARD_R9 ", " SWITCHYARD_R10 ", " SWITCHYARD_R11 \
                  ", " SWITCHYARD_R12 ", " SWITCHYARD_R13 ", " SWITCHYARD_R14 ", " SWITCHYARD_R15
#define SWITCHYARD_F4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SWITCHYARD_F8(i) SWITCHYARD_F4(i), SWITCHYARD_F4(i + 4)
#define SWITCHYARD_F16(i) SWITCHYARD_F8(i), SWITCHYARD_F8(i + 8)
#define SWITCHYARD_F32(i) SWITCHYARD_F16(i), SWITCHYARD_F16(i + 16)
#define SWITCHYARD_F64(i) SWITCHYARD_F32(i), SWITCHYARD_F32(i + 32)
#define SWITCHYARD_F48(i) SWITCHYARD_F32(i), SWITCHYARD_F16(i + 32)
#define SWITCHYARD_F72(i) SWITCHYARD_F64(i), SWITCHYARD_F8(i + 64)
#define SWITCHYARD_F80(i) SWITCHYARD_F72(i), SWITCHYARD_F8(i + 72)
#define SWITCHYARD_F88(i) SWITCHYARD_F72(i), SWITCHYARD_F16(i + 72)
#define SWITCHYARD_F128(i) SWITCHYARD_F64(i), SWITCHYARD_F64(i + 64)
/// `a_` .. `e_` are the operands that follow the kN / 2 accumulators.
#define SWITCHYARD_WGMMA(N, HALF, TYPE, REGISTERS, a_, b_, c_, d_, e_, FLOATS)                    \
  template <>                                                                                     \
  struct Wgmma<N, HALF> {                                                                         \
    __device__ static void run(float* d, uint64 a, uint64 b) {                                    \
      asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" REGISTERS \
                   "}, " a_ ", " b_ ", 1, 1, 1, 0, 0;"                                            \
                   : FLOATS                                                                       \
                   : "l"(a), "l"(b));                                                             \
    }                                                                                             \
    __device__ static void run(float* d, const uint32* a, uint64 b) {                             \
      asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" REGISTERS \
                   "}, {" a_ ", " b_ ", " c_ ", " d_ "}, " e_ ", 1, 1, 1, 0;"                     \
                   : FLOATS                                                                       \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                         \
    }                                                                                             \
  };
#define SWITCHYARD_WGMMA_ALL(HALF, TYPE)                                                      \
  SWITCHYARD_WGMMA(8, HALF, TYPE, "%0, %1, %2, %3", "%4", "%5", "%6", "%7", "%8",             \
                   SWITCHYARD_F4(0))                                                          \
  SWITCHYARD_WGMMA(16, HALF, TYPE, SWITCHYARD_R0, "%8", "%9", "%10", "%11", "%12",            \
                   SWITCHYARD_F8(0))                                                          \
  SWITCHYARD_WGMMA(32, HALF, TYPE, SWITCHYARD_R_16, "%16", "%17", "%18", "%19", "%20",        \
                   SWITCHYARD_F16(0))                                                         \
  SWITCHYARD_WGMMA(64, HALF, TYPE, SWITCHYARD_R_32, "%32", "%33", "%34", "%35", "%36",        \
                   SWITCHYARD_F32(0))                                                         \
  SWITCHYARD_WGMMA(96, HALF, TYPE, SWITCHYARD_R_48, "%48", "%49", "%50", "%51", "%52",        \
                   SWITCHYARD_F48(0))                                                         \
  SWITCHYARD_WGMMA(128, HALF, TYPE, SWITCHYARD_R_64, "%64", "%65", "%66", "%67", "%68",       \
                   SWITCHYARD_F64(0))                                                         \
  SWITCHYARD_WGMMA(144, HALF, TYPE, SWITCHYARD_R_72, "%72", "%73", "%74", "%75", "%76",       \
                   SWITCHYARD_F72(0))                                                         \
  SWITCHYARD_WGMMA(160, HALF, TYPE, SWITCHYARD_R_80, "%80", "%81", "%82", "%83", "%84",       \
                   SWITCHYARD_F80(0))                                                         \
  SWITCHYARD_WGMMA(176, HALF, TYPE, SWITCHYARD_R_88, "%88", "%89", "%90", "%91", "%92",       \
                   SWITCHYARD_F88(0))                                                         \
  SWITCHYARD_WGMMA(256, HALF, TYPE, SWITCHYARD_R_128, "%128", "%129", "%130", "%131", "%132", \
                   SWITCHYARD_F128(0))
SWITCHYARD_WGMMA_ALL(Half::bf16, "bf16")
SWITCHYARD_WGMMA_ALL(Half::fp16, "f16")

}  // namespace switchyard::ptx
