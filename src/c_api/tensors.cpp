#include "c_api/tensors.h"

#include <algorithm>
#include <array>
#include <span>

#include "base/check.h"

namespace switchyard::c_api {
namespace {

enum DlDevice : std::int32_t { kCpu = 1, kCuda = 2, kCudaHost = 3, kCudaManaged = 13 };
enum DlCode : std::uint8_t {
  kInt = 0,
  kUint = 1,
  kFloat = 2,
  kBfloat = 4,
  kBool = 6,
  kE4m3fn = 10,
  kE5m2 = 12,
  kE8m0fnu = 14,
  kE2m1fn = 17,
};

struct DlType {
  DType type;
  std::uint8_t code, bits;
};

constexpr std::array kTypes = {
    DlType{DType::f64, kFloat, 64},      DlType{DType::f32, kFloat, 32},
    DlType{DType::f16, kFloat, 16},      DlType{DType::bf16, kBfloat, 16},
    DlType{DType::f8_e4m3, kE4m3fn, 8},  DlType{DType::f8_e5m2, kE5m2, 8},
    DlType{DType::f8_e8m0, kE8m0fnu, 8}, DlType{DType::f4_e2m1, kE2m1fn, 4},
    DlType{DType::u4, kUint, 4},         DlType{DType::i64, kInt, 64},
    DlType{DType::i32, kInt, 32},        DlType{DType::i16, kInt, 16},
    DlType{DType::i8, kInt, 8},          DlType{DType::u8, kUint, 8},
    DlType{DType::boolean, kBool, 8}};

struct Name {
  std::string_view where, what;
};

DType dtype_of(const SwitchyardTensor& tensor, Name name) {
  for (const DlType& known : kTypes)
    if (known.code == tensor.dtype.code && known.bits == tensor.dtype.bits) return known.type;
  throw InvalidArgument(fmt::format(
      "[{}] {}: expected a type that Switchyard knows, got DLPack type code {} with {} bits.",
      name.where, name.what, tensor.dtype.code, tensor.dtype.bits));
}

std::string text(std::span<const std::int64_t> numbers) {
  std::string all;
  for (const std::int64_t number : numbers)
    all += fmt::format("{}{}", all.empty() ? "" : ", ", number);
  return "[" + all + "]";
}

void check_place(const SwitchyardTensor& tensor, Name name, Place place) {
  const std::int32_t type = tensor.device.type;
  if (place.kind == DeviceKind::cpu) {
    require(type == kCpu || type == kCudaHost || type == kCudaManaged,
            "[{}] {}: expected an array in host memory, got one on DLPack device {}:{}. Copy it "
            "first.",
            name.where, name.what, type, tensor.device.id);
    return;
  }
  require((type == kCuda || type == kCudaManaged) && tensor.device.id == place.ordinal,
          "[{}] {}: expected an array on cuda:{}, got one on {}:{}. Copy it first.", name.where,
          name.what, place.ordinal, type == kCuda ? "cuda" : "DLPack device", tensor.device.id);
}

void check_strides(const SwitchyardTensor& tensor, Name name) {
  if (tensor.strides == nullptr) return;
  const auto rank = static_cast<std::size_t>(tensor.ndim);
  const std::span<const std::int64_t> shape(tensor.shape, rank), strides(tensor.strides, rank);
  for (const std::int64_t extent : shape)
    if (extent == 0) return;
  std::int64_t step = 1;
  for (std::size_t axis = rank; axis-- > 0; step *= shape[axis])
    if (shape[axis] != 1 && strides[axis] != step)  // every call comes here: no text before
      throw InvalidArgument(fmt::format(
          "[{}] {}: expected a contiguous row-major array, got shape {} with strides {}. Copy it "
          "first.",
          name.where, name.what, text(shape), text(strides)));
}

}  // namespace

TensorView view_of(const SwitchyardTensor* tensor, std::string_view where, std::string_view what,
                   Place place, std::optional<DType> bytes_as) {
  if (tensor == nullptr) return {};
  const Name name{where, what};
  require(tensor->ndim >= 0 && tensor->ndim <= Shape::kMaxRank,
          "[{}] {}: expected at most {} extents, got {}.", where, what, Shape::kMaxRank,
          tensor->ndim);
  check_place(*tensor, name, place);
  check_strides(*tensor, name);
  const auto rank = static_cast<std::size_t>(tensor->ndim);
  std::array<std::int64_t, Shape::kMaxRank> extents{};  // every call comes here: no allocation
  std::copy_n(tensor->shape, rank, extents.begin());
  DType dtype = dtype_of(*tensor, name);
  std::int64_t lanes = tensor->dtype.lanes == 0 ? 1 : tensor->dtype.lanes;
  require(lanes == 1 || (lanes == 2 && bits(dtype) == 4),
          "[{}] {}: expected elements of one lane, got {}.", where, what, lanes);
  if (dtype == DType::u8 && bytes_as) {
    dtype = *bytes_as;
    lanes = bits(dtype) == 4 ? 2 : 1;
    require(bits(dtype) <= 8, "[{}] {}: expected {}, got bytes.", where, what,
            switchyard::name(dtype));
  }
  if (rank > 0) extents[rank - 1] *= lanes;
  TensorView view{
      .data = tensor->data, .dtype = dtype, .shape = Shape(std::span(extents).first(rank))};
  if (view.data != nullptr) view.data = static_cast<std::byte*>(view.data) + tensor->byte_offset;
  return view;
}

SwitchyardTensor as_c(const Tensor& tensor, std::int64_t (&shape)[Shape::kMaxRank]) {
  SwitchyardTensor c = {};
  c.device.type = kCpu;
  if (!tensor) return c;
  for (const DlType& known : kTypes)
    if (known.type == tensor.dtype()) {
      c.dtype.code = known.code;
      c.dtype.bits = known.bits;
    }
  c.dtype.lanes = 1;
  c.data = const_cast<void*>(tensor.data());
  c.ndim = tensor.shape().rank();
  std::copy(tensor.shape().begin(), tensor.shape().end(), shape);
  c.shape = shape;
  return c;
}

}  // namespace switchyard::c_api
