#include "cuda/driver.h"

#include <dlfcn.h>

#include <fstream>

#include "base/check.h"

namespace switchyard::cuda {
namespace {

constexpr const char* kLibrary = "libcuda.so.1";

/// Binds exported names to their table entries and remembers the first that is missing.
struct Binder {
  void* library;
  const char* missing = nullptr;

  template <class Function>
  void operator()(Function*& entry, const char* name) {
    entry = reinterpret_cast<Function*>(dlsym(library, name));
    if (entry == nullptr && missing == nullptr) missing = name;
  }
};

void bind_devices(Binder& bind, Api& api) {
  bind(api.cuInit, "cuInit");
  bind(api.cuDriverGetVersion, "cuDriverGetVersion");
  bind(api.cuGetErrorName, "cuGetErrorName");
  bind(api.cuGetErrorString, "cuGetErrorString");
  bind(api.cuDeviceGetCount, "cuDeviceGetCount");
  bind(api.cuDeviceGet, "cuDeviceGet");
  bind(api.cuDeviceGetName, "cuDeviceGetName");
  bind(api.cuDeviceGetAttribute, "cuDeviceGetAttribute");
  bind(api.cuDeviceTotalMem_v2, "cuDeviceTotalMem_v2");
  bind(api.cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain");
  bind(api.cuDevicePrimaryCtxRelease_v2, "cuDevicePrimaryCtxRelease_v2");
  bind(api.cuCtxGetCurrent, "cuCtxGetCurrent");
  bind(api.cuCtxPushCurrent_v2, "cuCtxPushCurrent_v2");
  bind(api.cuCtxPopCurrent_v2, "cuCtxPopCurrent_v2");
  bind(api.cuCtxSynchronize, "cuCtxSynchronize");
}

void bind_memory_and_kernels(Binder& bind, Api& api) {
  bind(api.cuMemAlloc_v2, "cuMemAlloc_v2");
  bind(api.cuMemFree_v2, "cuMemFree_v2");
  bind(api.cuMemGetInfo_v2, "cuMemGetInfo_v2");
  bind(api.cuMemHostAlloc, "cuMemHostAlloc");
  bind(api.cuMemFreeHost, "cuMemFreeHost");
  bind(api.cuMemcpyHtoDAsync_v2, "cuMemcpyHtoDAsync_v2");
  bind(api.cuMemcpyDtoHAsync_v2, "cuMemcpyDtoHAsync_v2");
  bind(api.cuMemcpyDtoDAsync_v2, "cuMemcpyDtoDAsync_v2");
  bind(api.cuMemsetD8Async, "cuMemsetD8Async");
  bind(api.cuModuleLoadDataEx, "cuModuleLoadDataEx");
  bind(api.cuModuleUnload, "cuModuleUnload");
  bind(api.cuModuleGetFunction, "cuModuleGetFunction");
  bind(api.cuFuncGetAttribute, "cuFuncGetAttribute");
  bind(api.cuFuncSetAttribute, "cuFuncSetAttribute");
  bind(api.cuLaunchKernelEx, "cuLaunchKernelEx");
  bind(api.cuTensorMapEncodeTiled, "cuTensorMapEncodeTiled");
}

void bind_streams(Binder& bind, Api& api) {
  bind(api.cuStreamCreate, "cuStreamCreate");
  bind(api.cuStreamDestroy_v2, "cuStreamDestroy_v2");
  bind(api.cuStreamSynchronize, "cuStreamSynchronize");
  bind(api.cuStreamWaitEvent, "cuStreamWaitEvent");
  bind(api.cuStreamBeginCapture_v2, "cuStreamBeginCapture_v2");
  bind(api.cuStreamEndCapture, "cuStreamEndCapture");
  bind(api.cuEventCreate, "cuEventCreate");
  bind(api.cuEventDestroy_v2, "cuEventDestroy_v2");
  bind(api.cuEventRecord, "cuEventRecord");
  bind(api.cuEventSynchronize, "cuEventSynchronize");
  bind(api.cuEventElapsedTime, "cuEventElapsedTime");
  bind(api.cuGraphInstantiateWithFlags, "cuGraphInstantiateWithFlags");
  bind(api.cuGraphLaunch, "cuGraphLaunch");
  bind(api.cuGraphDestroy, "cuGraphDestroy");
  bind(api.cuGraphExecDestroy, "cuGraphExecDestroy");
}

std::string error_text(const Api& api, CUresult result) {
  const char *name = nullptr, *text = nullptr;
  if (api.cuGetErrorName != nullptr) api.cuGetErrorName(result, &name);
  if (api.cuGetErrorString != nullptr) api.cuGetErrorString(result, &text);
  return fmt::format("{} ({})", name ? name : fmt::format("error {}", result), text ? text : "?");
}

std::optional<std::string> initialise(const Api& api) {
  int devices = 0;
  CUresult result = api.cuInit(0);
  if (result == CUDA_SUCCESS) result = api.cuDeviceGetCount(&devices);
  if (result == CUDA_ERROR_NO_DEVICE || (result == CUDA_SUCCESS && devices == 0))
    return "[cuda] no NVIDIA GPU is visible to this process: check nvidia-smi and "
           "CUDA_VISIBLE_DEVICES, or use the device cpu.";
  if (result == CUDA_ERROR_STUB_LIBRARY)
    return "[cuda] the CUDA toolkit's stub of the driver was found first: take the toolkit's stubs "
           "folder out of LD_LIBRARY_PATH.";
  if (result != CUDA_SUCCESS)
    return fmt::format(
        "[cuda] the driver does not start: {}. Check nvidia-smi, or use the device cpu.",
        error_text(api, result));
  return std::nullopt;
}

const Opened& opened() {
  static const Opened driver = open_driver(kLibrary);
  return driver;
}

}  // namespace

Opened open_driver(const char* library) {
  Opened opened;
  // Never closed: the driver keeps threads and exit handlers of its own.
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* reason = dlerror();
    opened.declines = fmt::format(
        "[cuda] no NVIDIA driver: {}. Install one (R580 or newer for CUDA 13), or use the device "
        "cpu.",
        reason ? reason : library);
    return opened;
  }
  Binder bind{handle};
  bind_devices(bind, opened.api);
  bind_memory_and_kernels(bind, opened.api);
  bind_streams(bind, opened.api);
  if (bind.missing != nullptr)
    opened.declines =
        fmt::format("[cuda] the NVIDIA driver is too old: {} has no {}. Install R580 or newer.",
                    library, bind.missing);
  else
    opened.declines = initialise(opened.api);
  return opened;
}

std::optional<std::string> driver_declines() {
  return opened().declines;
}

const Api& driver() {
  const Opened& driver = opened();
  if (driver.declines) throw Unsupported(*driver.declines);
  return driver.api;
}

int driver_version() {
  int version = 0;
  SWITCHYARD_CU(driver().cuDriverGetVersion(&version));
  return version;
}

std::string driver_release() {
  std::string release;
  std::ifstream("/sys/module/nvidia/version") >> release;
  return release.empty() ? fmt::format("CUDA {}", driver_version()) : release;
}

void check(CUresult result, const char* call, Location at) {
  if (result == CUDA_SUCCESS) return;
  throw DeviceError(fmt::format("{} failed: {} at {}:{}", call, error_text(opened().api, result),
                                at.file, at.line));
}

}  // namespace switchyard::cuda
