#include "cuda/memory.h"

#include <fmt/format.h>

#include "cuda/driver.h"
#include "switchyard/error.h"

namespace switchyard::cuda {
namespace {

CUdeviceptr address(const void* device) {
  return reinterpret_cast<CUdeviceptr>(device);
}

}  // namespace

DeviceBuffer::DeviceBuffer(Context context, std::size_t bytes)
    : context_(std::move(context)), bytes_(bytes) {
  if (bytes == 0) return;
  const Current current(*context_);
  CUdeviceptr allocated = 0;
  if (driver().cuMemAlloc_v2(&allocated, bytes) != CUDA_SUCCESS) {
    std::size_t free = 0, total = 0;
    driver().cuMemGetInfo_v2(&free, &total);
    throw DeviceError(fmt::format(
        "[cuda] device memory: asked for {} bytes, {} of {} are free on {}. Free some, or use "
        "fewer tokens or more GPUs.",
        bytes, free, total, context_->info().name));
  }
  data_ = reinterpret_cast<std::byte*>(allocated);
}

DeviceBuffer::~DeviceBuffer() {
  if (data_ == nullptr) return;
  try {
    const Current current(*context_);
    driver().cuMemFree_v2(address(data_));
  } catch (const Error&) {  // the driver is shutting down and frees it itself
  }
}

PinnedBuffer::PinnedBuffer(Context context, std::size_t bytes)
    : context_(std::move(context)), bytes_(bytes) {
  const Current current(context_);
  void* allocated = nullptr;
  SWITCHYARD_CU(driver().cuMemHostAlloc(&allocated, bytes, 0));
  data_ = static_cast<std::byte*>(allocated);
}

PinnedBuffer::~PinnedBuffer() {
  try {
    const Current current(context_);
    driver().cuMemFreeHost(data_);
  } catch (const Error&) {  // the driver is shutting down and frees it itself
  }
}

void copy_to_device(void* device, const void* host, std::size_t bytes, CUstream stream) {
  SWITCHYARD_CU(driver().cuMemcpyHtoDAsync_v2(address(device), host, bytes, stream));
}

void copy_to_host(void* host, const void* device, std::size_t bytes, CUstream stream) {
  SWITCHYARD_CU(driver().cuMemcpyDtoHAsync_v2(host, address(device), bytes, stream));
}

void copy_on_device(void* to, const void* from, std::size_t bytes, CUstream stream) {
  SWITCHYARD_CU(driver().cuMemcpyDtoDAsync_v2(address(to), address(from), bytes, stream));
}

void fill(void* device, unsigned char value, std::size_t bytes, CUstream stream) {
  SWITCHYARD_CU(driver().cuMemsetD8Async(address(device), value, bytes, stream));
}

}  // namespace switchyard::cuda
