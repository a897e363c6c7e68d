#pragma once

#include <cstdint>
#include <span>

#include "ops/repack/shared.cuh"

/// The order in which kernels read 16-bit weights: tiles of 128 rows x 64 columns, each contiguous
/// and swizzled as the tensor cores expect a K-major operand of 128-byte rows (the 16-byte chunk c
/// of row r lies at chunk c ^ (r % 8)). Rows and columns beyond the matrix are zeros.
/// docs/formats.md has the bytes.
namespace switchyard::repack {

std::int64_t tiled_bytes(const Matrix& matrix) noexcept;

/// One expert, [out, in] 16-bit elements -> tiles, and back (exactly).
void pack(const Matrix& matrix, std::span<const std::uint16_t> rows,
          std::span<std::uint16_t> tiles);
void unpack(const Matrix& matrix, std::span<const std::uint16_t> tiles,
            std::span<std::uint16_t> rows);

}  // namespace switchyard::repack
