#pragma once

#include <cstdint>

#include "switchyard/dtype.h"

/// The inner loops of the CPU GEMM, compiled once per instruction set from one source. What they
/// take is plain data: a file compiled for a newer CPU must not emit inline functions of the
/// standard library, which the linker could then hand to everybody.
namespace switchyard::grouped_gemm {

/// One expert's matrix [out, in], by the formula at ExpertMatrix, without the global scale.
struct MatrixView {
  const std::uint8_t* elements = nullptr;
  DType element = DType::f32;
  const std::uint8_t* scales = nullptr;  ///< [ceil(out / scale_rows), groups]; null = 1
  DType scale = DType::f32;
  const std::uint8_t* zeros = nullptr;            ///< [out, groups]; null = 8 for u4
  const std::int32_t* group_of_column = nullptr;  ///< [in]; null = column / scale_cols
  std::int64_t out = 0, in = 0;
  std::int64_t row_bytes = 0;
  std::int64_t scale_rows = 1, scale_cols = 1;
  std::int64_t groups = 0;
  std::int64_t scale_row_bytes = 0;
};

/// Rows of f32, padded with zeros to a multiple of kPad columns.
struct FloatRows {
  const float* data = nullptr;
  std::int64_t stride = 0;
};
inline constexpr int kPad = 128;

/// Rows of 16-bit fixed point with one power of two for every block of 16 columns: what bf16 holds
/// is kept but for values below 2^-7 of their block's largest. Padded with zeros to a multiple of
/// kPad. A code is low - 256 high, two signed bytes.
///
/// The 256 bytes of a panel of 128 columns are the high bytes, then the low ones, in the order in
/// which blends, masks and shifts of bytes bring out a 4-bit row: 32 each of the even and odd
/// columns among the first 8 of the blocks, then of those among the last 8; of each of these 4
/// from block 0, 4 from block 4, 4 from block 1, ... kBlockOfLane has the blocks' order.
struct FixedRows {
  const std::int8_t* codes = nullptr;  ///< [rows, 2 stride]
  const float* scales = nullptr;       ///< [rows, stride / 16]
  const float* sums = nullptr;         ///< [rows, stride / 16]  of the block's codes
  std::int64_t stride = 0;
};
inline constexpr int kBlockOfLane[8] = {0, 4, 1, 5, 2, 6, 3, 7};

/// The memory of FixedRows.
struct FixedMemory {
  std::int8_t* codes = nullptr;  ///< [rows, 2 stride]
  float* scales = nullptr;       ///< [rows, stride / 16]
  float* sums = nullptr;         ///< [rows, stride / 16]
  std::int64_t stride = 0;       ///< padded_columns()

  FixedMemory from(std::int64_t row) const noexcept {
    const std::int64_t block = row * stride / 16;
    return {codes + 32 * block, scales + block, sums + block, stride};
  }
  FixedRows rows() const noexcept { return {codes, scales, sums, stride}; }
};

/// Rows of weights and activations that share a call: y[t * y_stride + r] for
/// r in [0, rows) and t in [0, tokens); `index` names the activation rows (null = 0, 1, ...).
struct Block {
  std::int64_t first_row = 0, rows = 0;
  const std::int32_t* index = nullptr;
  std::int64_t tokens = 0;
  float* y = nullptr;
  std::int64_t y_stride = 0;
};

struct Kernels {
  /// Any format: decodes a panel of rows once, then multiplies it with every token.
  void (*multiply)(const MatrixView& w, const FloatRows& x, const Block& block);
  /// 4-bit formats of fixed_declines(): integer products, one conversion per 64 columns. Null
  /// where the instruction set has no byte shuffle.
  void (*multiply_fixed)(const MatrixView& w, const FixedRows& x, const Block& block);
  /// The fixed-point form of a padded row of f32 into the first row of `to`.
  void (*to_fixed)(const float* row, const FixedMemory& to);
};

extern const Kernels kBaseline;
#if defined(__x86_64__)
extern const Kernels kAvx2;
#endif

}  // namespace switchyard::grouped_gemm
