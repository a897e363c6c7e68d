#pragma once

#include <cstdint>
#include <memory>

#include "python/src/libtorch.h"
#include "switchyard/c_api.h"

namespace switchyard::python::libtorch {

struct DeleteHandle {
  using pointer = Tensor;
  void operator()(Tensor tensor) const noexcept { functions().delete_handle(tensor); }
};
using OwnedTensor = std::unique_ptr<Tensor, DeleteHandle>;

/// A tensor as the library describes it, and PyTorch's numbers of its type and kind of device. Good
/// while the tensor lives.
struct View {
  SwitchyardTensor tensor = {};
  std::int32_t dtype = 0, device = 0;
};

/// Throws Failure, as all here, for what PyTorch cannot do.
View view_of(Tensor tensor);

bool row_major(const SwitchyardTensor& tensor) noexcept;

/// Row-major, beside `like`, by PyTorch's allocator.
OwnedTensor make(const std::int64_t* sizes, std::int32_t dims, std::int32_t dtype,
                 const View& like);

struct FreeOnGpu {
  void operator()(void* data) const noexcept { functions().cuda_free(data); }
};
/// Bytes of a GPU's memory by PyTorch's allocator, in the order of its current stream; for less
/// than a tensor costs.
using GpuBytes = std::unique_ptr<void, FreeOnGpu>;
GpuBytes gpu_bytes(std::uint64_t count, std::int32_t device);

/// The same values in another tensor, row-major, of type `dtype`. `view` is the tensor's.
OwnedTensor copy_of(Tensor tensor, const View& view, std::int32_t dtype);

/// Throws if `status`, of PyTorch's function `what`, is not 0.
void check(int status, const char* what);

}  // namespace switchyard::python::libtorch
