#include "cuda/context.h"

#include "base/check.h"
#include "cuda/driver.h"

namespace switchyard::cuda {
namespace {

int attribute(CUdevice device, int which) {
  int value = 0;
  SWITCHYARD_CU(driver().cuDeviceGetAttribute(&value, which, device));
  return value;
}

DeviceInfo describe(CUdevice device) {
  char name[256] = {};
  SWITCHYARD_CU(driver().cuDeviceGetName(name, sizeof(name), device));
  DeviceInfo info;
  info.name = name;
  info.sm = 10 * attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
            attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  info.multiprocessors = attribute(device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  info.smem_per_block = attribute(device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
  info.l2_bytes = attribute(device, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
  info.clock_khz = attribute(device, CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
  info.memory_clock_khz = attribute(device, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
  info.memory_bus_bits = attribute(device, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
  SWITCHYARD_CU(driver().cuDeviceTotalMem_v2(&info.memory_bytes, device));
  return info;
}

}  // namespace

std::string to_string(const DeviceInfo& info) {
  return fmt::format("{}, sm_{}, {} SMs, {:.1f} GiB", info.name, info.sm, info.multiprocessors,
                     static_cast<double>(info.memory_bytes) / (1 << 30));
}

int device_count() {
  int count = 0;
  SWITCHYARD_CU(driver().cuDeviceGetCount(&count));
  return count;
}

Context Context::open(int ordinal) {
  const int count = device_count();
  require(ordinal >= 0 && ordinal < count, "[cuda] device: expected 0..{}, got {}.", count - 1,
          ordinal);
  CUdevice device = 0;
  SWITCHYARD_CU(driver().cuDeviceGet(&device, ordinal));
  return Context(std::make_shared<const State>(ordinal, device));
}

Context::State::State(int index, CUdevice which)
    : ordinal(index), device(which), info(describe(which)) {
  SWITCHYARD_CU(driver().cuDevicePrimaryCtxRetain(&handle, device));
}

Context::State::~State() {
  // At process exit the driver may be gone already; its refusal is no error then.
  driver().cuDevicePrimaryCtxRelease_v2(device);
}

Current::Current(CUcontext context) {
  CUcontext now = nullptr;
  SWITCHYARD_CU(driver().cuCtxGetCurrent(&now));
  if (now == context) return;
  SWITCHYARD_CU(driver().cuCtxPushCurrent_v2(context));
  pushed_ = true;
}

Current::~Current() {
  CUcontext popped = nullptr;
  if (pushed_) driver().cuCtxPopCurrent_v2(&popped);
}

}  // namespace switchyard::cuda
