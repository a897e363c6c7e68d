#include "python/src/libtorch.h"

#include <dlfcn.h>

#include <string>

#include "python/src/errors.h"
#include "switchyard/c_api.h"

namespace switchyard::python::libtorch {
namespace {

template <class Function>
void find(void* library, const std::string& name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name.c_str()));
  if (function == nullptr)
    raise(SWITCHYARD_UNSUPPORTED, "[torch] PyTorch: expected 2.10 or later, got one without " +
                                      name + ". Update it, or call the MoELayer itself.");
}

std::int32_t number(void* library, const std::string& name) {
  std::int32_t (*get)() = nullptr;
  find(library, "aoti_torch_" + name, get);
  return get();
}

std::vector<Type> find_types(void* library) {
  const struct {
    const char* name;
    std::uint8_t code, bits;
  } known[] = {{"bfloat16", 4, 16}, {"float32", 2, 32}, {"float16", 2, 16},  {"int32", 0, 32},
               {"int64", 0, 64},    {"uint8", 1, 8},    {"float64", 2, 64},  {"int16", 0, 16},
               {"int8", 0, 8},      {"bool", 6, 8},     {"complex64", 5, 64}};
  std::vector<Type> types;
  for (const auto& [name, code, bits] : known)
    types.push_back({number(library, std::string("dtype_") + name), code, bits});
  return types;
}

Functions find_all() {
  void* const torch = dlopen("libtorch_cpu.so", RTLD_NOW | RTLD_NOLOAD);
  if (torch == nullptr)
    raise(SWITCHYARD_UNSUPPORTED, "[torch] libtorch_cpu.so: expected it to be loaded, got none.");
  Functions all = {};
  find(torch, "aoti_torch_grad_mode_is_enabled", all.grad_mode_is_enabled);
  find(torch, "aoti_torch_new_tensor_handle", all.new_handle);
  find(torch, "aoti_torch_delete_tensor_object", all.delete_handle);
  find(torch, "aoti_torch_get_data_ptr", all.get_data_ptr);
  find(torch, "aoti_torch_get_dim", all.get_dim);
  find(torch, "aoti_torch_get_sizes", all.get_sizes);
  find(torch, "aoti_torch_get_strides", all.get_strides);
  find(torch, "aoti_torch_get_dtype", all.get_dtype);
  find(torch, "aoti_torch_get_device_type", all.get_device_type);
  find(torch, "aoti_torch_get_device_index", all.get_device_index);
  find(torch, "aoti_torch_empty_strided", all.empty_strided);
  find(torch, "torch_call_dispatcher", all.call);
  find(torch, "aoti_torch_library_init_impl", all.new_library);
  find(torch, "torch_library_impl", all.implement);
  all.types = find_types(torch);
  all.int32 = number(torch, "dtype_int32");
  all.float32 = number(torch, "dtype_float32");
  all.uint8 = number(torch, "dtype_uint8");
  all.cuda = number(torch, "device_type_cuda");
  if (void* const cuda = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_NOLOAD)) {
    find(cuda, "aoti_torch_get_current_cuda_stream", all.current_cuda_stream);
    find(cuda, "aoti_torch_create_cuda_guard", all.new_cuda_guard);
    find(cuda, "aoti_torch_delete_cuda_guard", all.delete_cuda_guard);
    find(cuda, "aoti_torch_cuda_caching_allocator_raw_alloc", all.cuda_allocate);
    find(cuda, "aoti_torch_cuda_caching_allocator_raw_delete", all.cuda_free);
  }
  return all;
}

}  // namespace

const Functions& functions() {
  static const Functions all = find_all();
  return all;
}

}  // namespace switchyard::python::libtorch
