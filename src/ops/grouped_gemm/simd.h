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

/// 128 columns of an activation row in 16-bit fixed point with one power of two for every block of
/// 16: what bf16 holds is kept but for values below 2^-7 of their block's largest. A code is
/// low - 256 high, two signed bytes.
///
/// The bytes lie in the order in which blends, masks and shifts of bytes bring out a 4-bit row: 32
/// each of the even and odd columns among the first 8 of the blocks, then of those among the last
/// 8; of each of these 4 from block 0, 4 from block 4, 4 from block 1, ... kBlockOfLane has the
/// blocks' order. All that a panel of weights meets lies in five cache lines behind one pointer.
struct FixedPanel {
  std::int8_t high[kPad], low[kPad];
  float scales[kPad / 16];
  float sums[kPad / 16];  ///< of the block's codes
};
inline constexpr int kBlockOfLane[8] = {0, 4, 1, 5, 2, 6, 3, 7};

/// Rows of it, padded with zeros to whole panels.
struct FixedRows {
  const FixedPanel* data = nullptr;
  std::int64_t stride = 0;  ///< panels a row
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
  /// 4-bit formats of fixed_declines(): integer products, one conversion per 128 columns. Null
  /// where the instruction set has no byte shuffle.
  void (*multiply_fixed)(const MatrixView& w, const FixedRows& x, const Block& block);
  /// The fixed-point form of `panels` * kPad columns of f32.
  void (*to_fixed)(const float* row, std::int64_t panels, FixedPanel* to);
};

extern const Kernels kBaseline;
#if defined(__x86_64__)
extern const Kernels kAvx2;
#endif

}  // namespace switchyard::grouped_gemm
