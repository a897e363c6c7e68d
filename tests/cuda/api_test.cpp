// Holds src/cuda/api.h against the toolkit's header, where there is one.
#include "cuda/api.h"

namespace switchyard::cuda {
// cuda.h makes a macro of this name.
using ElapsedTime = decltype(Api::cuEventElapsedTime);
}  // namespace switchyard::cuda

#if __has_include(<cuda.h>)
#include <cuda.h>

#include <type_traits>

namespace switchyard::cuda {
namespace {

template <class A, class B>
constexpr bool kSameKind =
    sizeof(A) == sizeof(B) && std::is_pointer_v<A> ==
                                  std::is_pointer_v<B>&& std::is_floating_point_v<A> ==
                                  std::is_floating_point_v<B>;

/// Two functions that are called the same way.
template <class Ours, class Theirs>
constexpr bool kSame = false;
template <class R, class... A, class S, class... B>
requires(sizeof...(A) ==
         sizeof...(B)) constexpr bool kSame<R (*)(A...), S (*)(B...)> = kSameKind<R, S> &&
                                                                        (kSameKind<A, B> && ...);

#define SAME(name) static_assert(kSame<decltype(Api::name), decltype(&::name)>, #name)
SAME(cuInit);
SAME(cuDriverGetVersion);
SAME(cuGetErrorName);
SAME(cuGetErrorString);
SAME(cuDeviceGetCount);
SAME(cuDeviceGet);
SAME(cuDeviceGetName);
SAME(cuDeviceGetAttribute);
SAME(cuDeviceTotalMem_v2);
SAME(cuDevicePrimaryCtxRetain);
SAME(cuDevicePrimaryCtxRelease_v2);
SAME(cuCtxGetCurrent);
SAME(cuCtxPushCurrent_v2);
SAME(cuCtxPopCurrent_v2);
SAME(cuCtxSynchronize);
SAME(cuMemAlloc_v2);
SAME(cuMemFree_v2);
SAME(cuMemGetInfo_v2);
SAME(cuMemHostAlloc);
SAME(cuMemFreeHost);
SAME(cuMemcpyHtoDAsync_v2);
SAME(cuMemcpyDtoHAsync_v2);
SAME(cuMemcpyDtoDAsync_v2);
SAME(cuMemsetD8Async);
SAME(cuModuleLoadDataEx);
SAME(cuModuleUnload);
SAME(cuModuleGetFunction);
SAME(cuFuncGetAttribute);
SAME(cuFuncSetAttribute);
SAME(cuLaunchKernelEx);
SAME(cuStreamCreate);
SAME(cuStreamDestroy_v2);
SAME(cuStreamSynchronize);
SAME(cuStreamWaitEvent);
SAME(cuStreamBeginCapture_v2);
SAME(cuStreamEndCapture);
SAME(cuEventCreate);
SAME(cuEventDestroy_v2);
SAME(cuEventRecord);
SAME(cuEventSynchronize);
static_assert(kSame<ElapsedTime, decltype(&::cuEventElapsedTime)>);
SAME(cuGraphInstantiateWithFlags);
SAME(cuGraphLaunch);
SAME(cuGraphDestroy);
SAME(cuGraphExecDestroy);
SAME(cuTensorMapEncodeTiled);
#undef SAME

#define SAME(name) static_assert(static_cast<long>(name) == static_cast<long>(::name), #name)
SAME(CUDA_SUCCESS);
SAME(CUDA_ERROR_STUB_LIBRARY);
SAME(CUDA_ERROR_NO_DEVICE);
SAME(CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
SAME(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
SAME(CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
SAME(CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
SAME(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
SAME(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
SAME(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
SAME(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
SAME(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
SAME(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES);
SAME(CU_FUNC_ATTRIBUTE_NUM_REGS);
SAME(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
SAME(CU_STREAM_NON_BLOCKING);
SAME(CU_EVENT_DEFAULT);
SAME(CU_EVENT_DISABLE_TIMING);
SAME(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
SAME(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
SAME(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
SAME(CU_TENSOR_MAP_DATA_TYPE_UINT8);
SAME(CU_TENSOR_MAP_DATA_TYPE_FLOAT16);
SAME(CU_TENSOR_MAP_DATA_TYPE_FLOAT32);
SAME(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16);
SAME(CU_TENSOR_MAP_INTERLEAVE_NONE);
SAME(CU_TENSOR_MAP_L2_PROMOTION_L2_256B);
SAME(CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
#undef SAME

static_assert(sizeof(CUdeviceptr) == sizeof(::CUdeviceptr));
static_assert(sizeof(CUtensorMap) == sizeof(::CUtensorMap));
static_assert(alignof(CUtensorMap) >= alignof(::CUtensorMap));

#define SAME(type, field) \
  static_assert(offsetof(type, field) == offsetof(::type, field) && sizeof(type) == sizeof(::type))
SAME(CUlaunchConfig, gridDimX);
SAME(CUlaunchConfig, gridDimZ);
SAME(CUlaunchConfig, blockDimX);
SAME(CUlaunchConfig, sharedMemBytes);
SAME(CUlaunchConfig, hStream);
SAME(CUlaunchConfig, attrs);
SAME(CUlaunchConfig, numAttrs);
SAME(CUlaunchAttribute, id);
SAME(CUlaunchAttribute, value);
SAME(CUlaunchAttribute, value.clusterDim.z);
SAME(CUlaunchAttribute, value.programmaticStreamSerializationAllowed);
#undef SAME

}  // namespace
}  // namespace switchyard::cuda
#endif
