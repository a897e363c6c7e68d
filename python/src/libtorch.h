#pragma once

#include <cstdint>
#include <vector>

namespace switchyard::python::libtorch {

/// AtenTensorHandle.
using Tensor = struct TensorOpaque*;
/// StableIValue: an int as it is, a Tensor as a handle, a Tensor? as a pointer to one that `new`
/// made, or 0. Whoever gets it owns it.
using Value = std::uint64_t;
/// Takes the arguments from the stack and leaves the results there.
using Kernel = void (*)(Value* stack, std::uint64_t arguments, std::uint64_t results);

/// A type by PyTorch's number, and by DLPack's code and bits.
struct Type {
  std::int32_t number;
  std::uint8_t code, bits;
};

/// What the operators need of PyTorch's C interface, which stays as it is from version to version
/// (torch/csrc/stable/c/shim.h, torch/csrc/inductor/aoti_torch/c/shim.h). Found in the libraries
/// that `import torch` loaded, so building needs no PyTorch. Functions return 0 unless they fail.
struct Functions {
  bool (*grad_mode_is_enabled)();
  int (*new_handle)(Tensor tensor, Tensor* handle);
  int (*delete_handle)(Tensor handle);
  int (*get_data_ptr)(Tensor tensor, void** data);
  int (*get_dim)(Tensor tensor, std::int64_t* dims);
  int (*get_sizes)(Tensor tensor, std::int64_t** sizes);
  int (*get_strides)(Tensor tensor, std::int64_t** strides);
  int (*get_dtype)(Tensor tensor, std::int32_t* dtype);
  int (*get_device_type)(Tensor tensor, std::int32_t* type);
  int (*get_device_index)(Tensor tensor, std::int32_t* index);
  int (*empty_strided)(std::int64_t dims, const std::int64_t* sizes, const std::int64_t* strides,
                       std::int32_t dtype, std::int32_t device_type, std::int32_t device_index,
                       Tensor* made);
  int (*call)(const char* name, const char* overload, Value* stack, std::uint64_t version);
  int (*new_library)(const char* name, const char* key, const char* file, std::uint32_t line,
                     void** library);
  int (*implement)(void* library, const char* name, Kernel kernel, std::uint64_t version);
  /// Null without CUDA, as the next ones.
  int (*current_cuda_stream)(std::int32_t device, void** stream);
  int (*new_cuda_guard)(std::int32_t device, void** guard);  ///< the current device while it lives
  int (*delete_cuda_guard)(void* guard);
  int (*cuda_allocate)(std::uint64_t bytes, void** data);  ///< on the current device and stream
  int (*cuda_free)(void* data);
  std::vector<Type> types;
  std::int32_t int32, float32, uint8, cuda;  ///< PyTorch's numbers
};

/// Needs the GIL the first time, when it throws switchyard.Unsupported for a PyTorch before 2.10.
const Functions& functions();

/// The version whose conventions values have here: 2.10.
inline constexpr std::uint64_t kVersion = 0x020a'0000'0000'0000;

}  // namespace switchyard::python::libtorch
