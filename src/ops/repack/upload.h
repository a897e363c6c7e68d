#pragma once

#include <cstddef>
#include <span>

#include "cuda/memory.h"
#include "cuda/stream.h"
#include "device/half.cuh"
#include "jit/kernel.h"
#include "ops/repack/tiles.h"

/// 16-bit weights of E experts, [E, out, in] row-major -> tiles [E, tiled_bytes(matrix)] on a GPU.
namespace switchyard::repack {

/// What the functions below work with.
struct Gpu {
  const cuda::Context& context;
  const cuda::Stream& stream;
  jit::Loader& loader;
};

/// From host memory, complete on return. Takes the device memory of one expert besides `tiles`.
void upload(const Gpu& gpu, const Matrix& matrix, int experts, std::span<const std::byte> rows,
            std::byte* tiles);
cuda::DeviceBuffer upload(const Gpu& gpu, const Matrix& matrix, int experts,
                          std::span<const std::byte> rows);

/// From device memory to device memory; enqueued. `tiles` is 16-byte aligned, `rows` need not be.
void enqueue_pack(const Gpu& gpu, const Matrix& matrix, int experts, const std::byte* rows,
                  std::byte* tiles);
/// And back, exactly.
void enqueue_unpack(const Gpu& gpu, const Matrix& matrix, int experts, const std::byte* tiles,
                    std::byte* rows);

/// norms[2 e] = the largest sum of absolute values of a row of expert e, f32, NaN if one is there;
/// enqueued. `norms` is zero before.
struct Norms {
  Half half;
  Weights weights;
  const float* factors;  ///< [E, 2] on the device; of packed weights
};
void enqueue_norms(const Gpu& gpu, const Matrix& matrix, int experts, const Norms& kind,
                   const std::byte* tiles, float* norms);

/// Four-bit weights of E experts in device memory: codes [E, out, in / 2], 8-byte aligned, and
/// scales [E, out, in / block].
struct Fp4Matrices {
  Weights weights;
  std::byte *codes, *scales;
  int shift;  ///< of MXFP4 scales (device/fp4.cuh)
};
/// From or to `tiles`, which are 16-byte aligned, exactly; enqueued.
void enqueue_fp4(const Gpu& gpu, Direction direction, const Matrix& matrix, int experts,
                 const Fp4Matrices& rows, std::byte* tiles);

/// Four-bit weights in host memory: codes [E, out, in / 2] and scales [E, out, in / block].
struct Fp4Weights {
  Weights weights;
  std::span<const std::byte> codes, scales;
  int shift;
};
/// Complete on return. Takes the device memory of one expert besides `tiles`.
void upload_fp4(const Gpu& gpu, const Matrix& matrix, int experts, Fp4Weights from,
                std::byte* tiles);

}  // namespace switchyard::repack
