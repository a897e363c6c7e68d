#include "python/src/tensors.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "python/src/failure.h"

namespace switchyard::python::libtorch {

void check(int status, const char* what) {
  if (status != 0)
    throw Failure(SWITCHYARD_DEVICE_ERROR, std::string("[torch] ") + what +
                                               ": expected PyTorch to succeed, it failed. The line "
                                               "that it logged says why.");
}

View view_of(Tensor tensor) {
  const Functions& torch = functions();
  View view;
  SwitchyardTensor& to = view.tensor;
  std::int64_t dims = 0;
  check(torch.get_dim(tensor, &dims), "dim");
  check(torch.get_sizes(tensor, &to.shape), "sizes");
  check(torch.get_strides(tensor, &to.strides), "strides");
  check(torch.get_dtype(tensor, &view.dtype), "dtype");
  check(torch.get_device_type(tensor, &view.device), "device");
  check(torch.get_device_index(tensor, &to.device.id), "device");
  check(torch.get_data_ptr(tensor, &to.data), "data_ptr");
  to.ndim = static_cast<std::int32_t>(dims);
  to.device.type = view.device == torch.cuda ? 2 : 1;
  to.device.id = std::max(to.device.id, 0);  // PyTorch says -1 for the CPU
  for (const Type& type : torch.types)
    if (type.number == view.dtype) to.dtype = {type.code, type.bits, 1};
  return view;
}

bool row_major(const SwitchyardTensor& tensor) noexcept {
  std::int64_t stride = 1;
  for (std::int32_t i = tensor.ndim; i-- > 0; stride *= tensor.shape[i])
    if (tensor.shape[i] != 1 && tensor.strides[i] != stride) return false;
  return true;
}

OwnedTensor make(const std::int64_t* sizes, std::int32_t dims, std::int32_t dtype,
                 const View& like) {
  std::vector<std::int64_t> strides(static_cast<std::size_t>(dims), 1);
  for (std::size_t i = strides.size(); i-- > 1;)
    strides[i - 1] = strides[i] * std::max<std::int64_t>(sizes[i], 1);
  Tensor made = nullptr;
  check(functions().empty_strided(dims, sizes, strides.data(), dtype, like.device,
                                  like.tensor.device.id, &made),
        "empty_strided");
  return OwnedTensor(made);
}

GpuBytes gpu_bytes(std::uint64_t count, std::int32_t device) {
  void *guard = nullptr, *data = nullptr;
  check(functions().new_cuda_guard(device, &guard), "the device");
  const int status = functions().cuda_allocate(count, &data);
  functions().delete_cuda_guard(guard);
  check(status, "the workspace");
  return GpuBytes(data);
}

OwnedTensor copy_of(Tensor tensor, const View& view, std::int32_t dtype) {
  OwnedTensor copy = make(view.tensor.shape, view.tensor.ndim, dtype, view);
  Tensor to = nullptr, from = nullptr;
  check(functions().new_handle(copy.get(), &to), "copy_");
  check(functions().new_handle(tensor, &from), "copy_");
  Value stack[] = {reinterpret_cast<Value>(to), reinterpret_cast<Value>(from), 0};
  check(functions().call("aten::copy_", "", stack, kVersion), "copy_");
  functions().delete_handle(reinterpret_cast<Tensor>(stack[0]));
  return copy;
}

}  // namespace switchyard::python::libtorch
