#include "cuda/tensor_map.h"

#include "base/check.h"
#include "cuda/driver.h"

namespace switchyard::cuda {
namespace {

int element_type(DType dtype) {
  if (dtype == DType::bf16) return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  if (dtype == DType::f16) return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  if (dtype == DType::f32) return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  require(bits(dtype) == 8, "[tensor_map] dtype: expected bf16, f16, f32 or one byte, got {}.",
          name(dtype));
  return CU_TENSOR_MAP_DATA_TYPE_UINT8;
}

void check_addressable(const TiledTensor& t) {
  constexpr std::uint64_t kAlignment = 16;
  require(t.rank == 2 || t.rank == 3, "[tensor_map] rank: expected 2 or 3, got {}.", t.rank);
  require(reinterpret_cast<std::uintptr_t>(t.data) % kAlignment == 0 && t.data != nullptr,
          "[tensor_map] data: expected a 16-byte aligned device address, got {}.", t.data);
  for (int axis = 0; axis < t.rank; ++axis) {
    require(t.extents[axis] > 0 && t.extents[axis] <= (std::uint64_t{1} << 32),
            "[tensor_map] extent {}: expected 1..2^32, got {}.", axis, t.extents[axis]);
    require(t.box[axis] > 0 && t.box[axis] <= 256, "[tensor_map] box {}: expected 1..256, got {}.",
            axis, t.box[axis]);
  }
  for (int axis = 1; axis < t.rank; ++axis)
    require(t.strides_bytes[axis - 1] % kAlignment == 0,
            "[tensor_map] stride of axis {}: expected a multiple of 16 bytes, got {}.", axis,
            t.strides_bytes[axis - 1]);
  const unsigned row = t.box[0] * static_cast<unsigned>(bits(t.dtype)) / 8;
  require(row % kAlignment == 0, "[tensor_map] box 0: expected a multiple of 16 bytes, got {}.",
          row);
  const unsigned span = 16U << static_cast<int>(t.swizzle);
  require(t.swizzle == Swizzle::none || row <= span,
          "[tensor_map] box 0: expected at most {} bytes with this swizzle, got {}.", span, row);
}

}  // namespace

CUtensorMap tensor_map(const TiledTensor& tensor) {
  const int type = element_type(tensor.dtype);
  check_addressable(tensor);
  constexpr std::uint32_t kDense[3] = {1, 1, 1};
  CUtensorMap map;
  SWITCHYARD_CU(driver().cuTensorMapEncodeTiled(
      &map, type, static_cast<std::uint32_t>(tensor.rank), const_cast<void*>(tensor.data),
      tensor.extents, tensor.strides_bytes, tensor.box, kDense, CU_TENSOR_MAP_INTERLEAVE_NONE,
      static_cast<int>(tensor.swizzle), CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
  return map;
}

}  // namespace switchyard::cuda
