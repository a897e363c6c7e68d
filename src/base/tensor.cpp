#include "switchyard/tensor.h"

#include <fmt/ranges.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "base/math.h"

namespace switchyard {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::int64_t kMaxElements = std::int64_t{1} << 62;

struct DTypeInfo {
  DType type;
  std::string_view name;
  int bits;
};

constexpr DTypeInfo kDTypes[] = {
    {DType::f64, "f64", 64},        {DType::f32, "f32", 32},        {DType::f16, "f16", 16},
    {DType::bf16, "bf16", 16},      {DType::f8_e4m3, "f8_e4m3", 8}, {DType::f8_e5m2, "f8_e5m2", 8},
    {DType::f8_e8m0, "f8_e8m0", 8}, {DType::f4_e2m1, "f4_e2m1", 4}, {DType::u4, "u4", 4},
    {DType::i64, "i64", 64},        {DType::i32, "i32", 32},        {DType::i16, "i16", 16},
    {DType::i8, "i8", 8},           {DType::u8, "u8", 8},           {DType::boolean, "boolean", 8},
};

const DTypeInfo& info(DType type) {
  return kDTypes[static_cast<std::size_t>(type)];
}

}  // namespace

int bits(DType type) noexcept {
  return info(type).bits;
}

std::string_view name(DType type) noexcept {
  return info(type).name;
}

std::optional<DType> dtype_named(std::string_view name) noexcept {
  for (const DTypeInfo& candidate : kDTypes)
    if (candidate.name == name) return candidate.type;
  return std::nullopt;
}

Shape::Shape(std::initializer_list<std::int64_t> extents)
    : Shape(std::span<const std::int64_t>(extents.begin(), extents.size())) {}

Shape::Shape(std::span<const std::int64_t> extents) : rank_(static_cast<int>(extents.size())) {
  require(extents.size() <= kMaxRank, "[shape] rank: expected at most {}, got {}.", kMaxRank,
          extents.size());
  std::int64_t product = 1;
  for (std::size_t axis = 0; axis < extents.size(); ++axis) {
    const std::int64_t extent = extents[axis];
    require(extent >= 0, "[shape] extent {}: expected a count, got {}.", axis, extent);
    require(extent == 0 || product <= kMaxElements / extent,
            "[shape] {}: expected at most 2^62 elements. Check the extents.",
            fmt::join(extents, " x "));
    product *= extent;
    extents_[axis] = extent;
  }
}

std::int64_t Shape::elements() const noexcept {
  std::int64_t product = 1;
  for (const std::int64_t extent : *this) product *= extent;
  return product;
}

std::string to_string(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

std::int64_t size_bytes(DType dtype, const Shape& shape) noexcept {
  const int width = bits(dtype);
  return width == 4 ? ceil_div<std::int64_t>(shape.elements(), 2) : shape.elements() * (width / 8);
}

void Tensor::Free::operator()(std::byte* data) const noexcept {
  std::free(data);
}

Tensor::Tensor(DType dtype, Shape shape) : dtype_(dtype), shape_(shape) {
  require(bits(dtype) != 4 || (shape.rank() > 0 && shape[shape.rank() - 1] % 2 == 0),
          "[tensor] {} {}: expected an even last extent (two values share a byte).", name(dtype),
          to_string(shape));
  const std::size_t least = static_cast<std::size_t>(size_bytes(dtype, shape)) + 1;
  const bool large = least >= 16 * kHugePage;  // rounding up costs little, an address miss much
  const std::size_t alignment = large ? kHugePage : kAlignment;
  const auto bytes = round_up<std::size_t>(least, alignment);
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(alignment, bytes)));
  if (!data_)
    throw DeviceError(fmt::format("[tensor] no memory for {} bytes ({} {}).", bytes, name(dtype),
                                  to_string(shape)));
  if (large) madvise(data_.get(), bytes, MADV_HUGEPAGE);  // a wish: any answer will do
}

Tensor Tensor::zeros(DType dtype, Shape shape) {
  Tensor tensor(dtype, shape);
  std::memset(tensor.data(), 0, static_cast<std::size_t>(tensor.bytes()));
  return tensor;
}

Tensor Tensor::copy_of(ConstTensorView view) {
  if (!view) return {};
  Tensor tensor(view.dtype, view.shape);
  std::memcpy(tensor.data(), view.data, static_cast<std::size_t>(tensor.bytes()));
  return tensor;
}

}  // namespace switchyard
