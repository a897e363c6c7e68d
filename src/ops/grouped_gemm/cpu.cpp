#include "ops/grouped_gemm/cpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"
#include "base/math.h"
#include "formats/decode.h"

namespace switchyard::grouped_gemm {
namespace {

// About 100 KB of 4-bit weights at H = 2048: long enough to hide a task's start, short enough to
// spread one expert over many cores. A multiple of the panel's 12 rows.
constexpr std::int64_t kTaskRows = 96;

const Kernels& kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx2) return kAvx2;
#endif
  static_cast<void>(isa);
  return kBaseline;
}

/// Where column c of 64 stands in FixedRows.
constexpr std::int64_t fixed_position(std::int64_t c) {
  constexpr std::int64_t kVectorOfNibble[4] = {0, 2, 1, 3};
  return kVectorOfNibble[c % 4] * 16 + c / 4;
}

}  // namespace

bool supported(Isa isa) noexcept {
  if (isa == Isa::baseline) return true;
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

Isa best_isa() noexcept {
  return supported(Isa::avx2) ? Isa::avx2 : Isa::baseline;
}

std::string_view name(Isa isa) noexcept {
  return isa == Isa::avx2 ? "avx2" : "baseline";
}

std::optional<std::string> fixed_declines(const ExpertMatrix& w, Isa isa, Precision precision) {
  const WeightFormat& format = w.format;
  if (format.element != DType::f4_e2m1 && format.element != DType::u4)
    return fmt::format("needs 4-bit weights, these are {}", to_string(format));
  if (isa == Isa::baseline) return "needs a byte shuffle (avx2)";
  if (precision == Precision::f32) return "needs activations of 16 bits or less, these are f32";
  if (w.group_of_column) return "needs scales by column, these follow an act order";
  const ScaleBlock block = scale_block(format, w.out(), w.in());
  if (format.scaled && (block.rows != 1 || (block.cols % 16 != 0 && block.cols != w.in())))
    return fmt::format("needs one scale a row and a multiple of 16 columns, got {} x {}",
                       block.rows, block.cols);
  return std::nullopt;
}

CpuGemm::CpuGemm(const ExpertMatrix& matrix, Precision precision, Choice choice)
    : matrix_(&matrix), isa_(choice.isa), method_(choice.method) {
  if (!supported(isa_)) {
    throw Unsupported(
        fmt::format("[grouped_gemm] variant {}: this CPU lacks it. Use baseline.", name(isa_)));
  }
  kernels_ = &kernels(isa_);
  if (method_ == Method::f32) return;
  const std::optional<std::string> reason = fixed_declines(matrix, isa_, precision);
  if (!reason) return;
  if (method_ == Method::fixed) {
    throw Unsupported(fmt::format("[grouped_gemm] variant fixed16: {}. Use f32.", *reason));
  }
  method_ = Method::f32;
}

std::string CpuGemm::variant() const {
  switch (method_) {
    case Method::f32:
      return fmt::format("{} f32", name(isa_));
    case Method::fixed:
      return fmt::format("{} fixed16", name(isa_));
    default:
      return fmt::format("{} fixed16 up to {} rows an expert, else f32", name(isa_), kFixedTokens);
  }
}

bool CpuGemm::uses_fixed(std::int64_t rows) const noexcept {
  return method_ == Method::fixed || (method_ == Method::automatic && rows <= kFixedTokens);
}

std::int64_t CpuGemm::tasks() const noexcept {
  return ceil_div(matrix_->out(), kTaskRows);
}

MatrixView CpuGemm::view(std::int64_t expert) const {
  const ExpertMatrix& m = *matrix_;
  MatrixView view;
  view.element = m.format.element;
  view.out = m.out();
  view.in = m.in();
  view.row_bytes = m.in() * bits(m.format.element) / 8;
  view.elements = m.elements.as<std::uint8_t>() + expert * view.out * view.row_bytes;
  const ScaleBlock block = scale_block(m.format, view.out, view.in);
  view.scale_rows = block.rows;
  view.scale_cols = block.cols;
  if (m.scales) {
    view.scale = m.format.scale;
    view.groups = m.scales.shape()[2];
    view.scale_row_bytes = view.groups * bits(view.scale) / 8;
    view.scales = m.scales.as<std::uint8_t>() + expert * m.scales.shape()[1] * view.scale_row_bytes;
  }
  if (m.zeros) {
    view.groups = m.zeros.shape()[2];
    view.zeros = m.zeros.as<std::uint8_t>() + expert * view.out * view.groups;
  }
  if (m.group_of_column) {
    view.group_of_column = m.group_of_column.as<std::int32_t>() + expert * view.in;
  }
  return view;
}

void CpuGemm::run(std::int64_t expert, std::int64_t task, const Rows& x, std::int64_t rows,
                  float* y) const {
  const MatrixView w = view(expert);
  const std::int64_t first = task * kTaskRows;
  const Block block{.first_row = first,
                    .rows = std::min(kTaskRows, w.out - first),
                    .index = x.index,
                    .tokens = rows,
                    .y = y + first,
                    .y_stride = w.out};
  if (uses_fixed(rows)) {
    kernels_->multiply_fixed(w, x.fixed, block);
  } else {
    kernels_->multiply(w, x.f32, block);
  }
  if (!matrix_->global_scale) return;
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const float global = formats::row_global(*matrix_, expert, first + r);
    for (std::int64_t t = 0; t < rows; ++t) block.y[t * block.y_stride + r] *= global;
  }
}

std::int64_t padded_columns(std::int64_t in) noexcept {
  return round_up<std::int64_t>(in, kPad);
}

void pad_row(float* row, std::int64_t in) noexcept {
  std::fill(row + in, row + padded_columns(in), 0.0F);
}

void to_fixed(const float* row, std::int64_t in, std::int16_t* codes, float* scales) noexcept {
  for (std::int64_t c = 0; c < padded_columns(in); c += 16) {
    float largest = 0;
    bool finite = true;
    for (std::int64_t i = c; i < c + 16; ++i) {
      largest = std::max(largest, std::abs(row[i]));
      finite = finite && std::isfinite(row[i]);
    }
    // largest / scale is in [2^14, 2^15); a value that is not finite makes the block's sum NaN.
    const int exponent = largest > 0 && finite ? std::ilogb(largest) - 14 : 0;
    const float scale = finite ? std::ldexp(1.0F, exponent) : std::nanf("");
    scales[c / 16] = scale;
    for (std::int64_t i = c; i < c + 16; ++i) {
      const float code = finite ? std::nearbyint(std::ldexp(row[i], -exponent)) : 1.0F;
      codes[c / 64 * 64 + fixed_position(i % 64)] =
          static_cast<std::int16_t>(std::min(code, 32767.0F));
    }
  }
}

}  // namespace switchyard::grouped_gemm
