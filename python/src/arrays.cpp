#include "python/src/arrays.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <cstddef>
#include <string>
#include <vector>

#include "python/src/errors.h"

namespace nb = nanobind;

namespace switchyard::python {
namespace {

// The same layout under two names: what nanobind imports is what the C API takes.
static_assert(sizeof(SwitchyardTensor) == sizeof(nb::dlpack::dltensor));
static_assert(offsetof(SwitchyardTensor, dtype) == offsetof(nb::dlpack::dltensor, dtype));
static_assert(offsetof(SwitchyardTensor, strides) == offsetof(nb::dlpack::dltensor, strides));
static_assert(offsetof(SwitchyardTensor, byte_offset) ==
              offsetof(nb::dlpack::dltensor, byte_offset));

/// Types that numpy does not have: it exchanges them as unsigned integers.
struct ExtraType {
  std::string_view name;
  std::uint8_t code, bits;
};
constexpr ExtraType kExtraTypes[] = {{"bfloat16", 4, 16},
                                     {"float8_e4m3fn", 10, 8},
                                     {"float8_e5m2", 12, 8},
                                     {"float8_e8m0fnu", 14, 8}};

template <class NdArray>
SwitchyardTensor tensor_of(const NdArray& array) {
  SwitchyardTensor tensor = {};
  tensor.data = array.data_handle();
  tensor.device = {array.device_type(), array.device_id()};
  tensor.ndim = static_cast<std::int32_t>(array.ndim());
  tensor.dtype = {array.dtype().code, array.dtype().bits, array.dtype().lanes};
  tensor.shape = const_cast<std::int64_t*>(array.shape_ptr());
  tensor.strides = const_cast<std::int64_t*>(array.stride_ptr());
  tensor.byte_offset = array.byte_offset();
  return tensor;
}

}  // namespace

bool Array::import(nb::handle object, Access access) {
  exchange_ = exchange_of(object);
  if (exchange_ != nullptr && exchange_->view(object.ptr(), &tensor_) == 0) {
    viewed_ = nb::borrow(object);
    return present_ = true;
  }
  PyErr_Clear();
  if (access == Access::write) {
    if (!nb::try_cast(object, writable_)) return false;
    tensor_ = tensor_of(writable_);
  } else {
    if (!nb::try_cast(object, readable_)) return false;
    tensor_ = tensor_of(readable_);
  }
  return present_ = true;
}

void Array::retype(std::string_view dtype) {
  for (const ExtraType& type : kExtraTypes)
    if (type.name == dtype) tensor_.dtype = {type.code, type.bits, 1};
}

Array::Array(nb::handle object, std::string_view what, Access access) {
  if (object.is_none() || import(object, access)) return;
  // numpy does not export ml_dtypes' types, nor PyTorch every tensor that needs a gradient.
  const nb::tuple storage = nb::cast<nb::tuple>(
      nb::module_::import_("switchyard._arrays").attr("storage")(object, std::string(what)));
  if (!import(storage[0], access))
    raise_invalid(std::string("[python] ") + std::string(what) +
                  (access == Access::write ? ": expected a writable array"
                                           : ": expected an array (DLPack or buffer protocol)") +
                  ", got " + nb::cast<std::string>(nb::str(object.type())) + ".");
  retype(nb::cast<std::string>(storage[1]));
}

Array::Array(nb::handle object, std::string_view what, std::string_view dtype)
    : Array(object, what, Access::read) {
  retype(dtype);
}

nb::object to_numpy(const SwitchyardTensor& view, nb::handle owner) {
  if (view.data == nullptr) return nb::none();
  std::vector<std::size_t> shape(view.shape, view.shape + view.ndim);
  nb::dlpack::dtype dtype{view.dtype.code, view.dtype.bits, 1};
  std::string name;
  if (dtype.bits == 4) {  // two to a byte
    name = dtype.code == 1 ? "uint4" : "float4_e2m1fn";
    shape.back() /= 2;
    dtype = nb::dtype<std::uint8_t>();
  }
  for (const ExtraType& type : kExtraTypes)
    if (type.code == view.dtype.code && type.bits == view.dtype.bits) {
      name = type.name;
      dtype = type.bits == 16 ? nb::dtype<std::uint16_t>() : nb::dtype<std::uint8_t>();
    }
  const nb::ndarray<nb::numpy> array(view.data, shape.size(), shape.data(), owner, nullptr, dtype,
                                     nb::device::cpu::value);
  return nb::make_tuple(array, name);
}

}  // namespace switchyard::python
