#pragma once

#include <cstdint>

#include "cuda/api.h"
#include "switchyard/dtype.h"

namespace switchyard::cuda {

/// How a box's 16-byte chunks are spread over the shared-memory banks; the box row must fit.
enum class Swizzle : int { none = 0, b32 = 1, b64 = 2, b128 = 3 };

/// A 2-D or 3-D box that TMA copies between a row-major tensor and shared memory.
/// Index 0 is the contiguous axis. Elements outside the tensor read as zero and are not written.
struct TiledTensor {
  const void* data = nullptr;           // device, 16-byte aligned
  DType dtype = DType::bf16;            // bf16 | f16 | f32, or a one-byte type
  int rank = 2;                         // 2 | 3
  std::uint64_t extents[3] = {};        // elements
  std::uint64_t strides_bytes[2] = {};  // of axes 1 and 2; multiples of 16
  std::uint32_t box[3] = {};            // elements, each at most 256
  Swizzle swizzle = Swizzle::none;
};

/// The 128 opaque bytes a kernel takes as a __grid_constant__ parameter.
/// Throws InvalidArgument, naming the field, if TMA cannot address the tensor.
CUtensorMap tensor_map(const TiledTensor& tensor);

}  // namespace switchyard::cuda
