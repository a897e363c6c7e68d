#include "ops/grouped_gemm/cpu.h"

#include <fmt/format.h>

#include <algorithm>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/check.h"
#include "base/math.h"

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

#if defined(__x86_64__)
/// Clang 14 cannot ask for it by name.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

}  // namespace

bool supported(Isa isa) noexcept {
  if (isa == Isa::baseline) return true;
#if defined(__x86_64__)
  // Asked once: under a hypervisor each cpuid takes microseconds.
  static const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  return avx2;
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

CpuGemm::CpuGemm(const ExpertMatrix& matrix, Precision precision, Choice choice) {
  choose(choice, fixed_declines(matrix, choice.isa, precision));
  const ScaleBlock block = scale_block(matrix.format, matrix.out(), matrix.in());
  first_ = {.elements = matrix.elements.as<std::uint8_t>(),
            .element = matrix.format.element,
            .scales = matrix.scales.as<std::uint8_t>(),
            .scale = matrix.format.scale,
            .zeros = matrix.zeros.as<std::uint8_t>(),
            .group_of_column = matrix.group_of_column.as<std::int32_t>(),
            .out = matrix.out(),
            .in = matrix.in(),
            .row_bytes = matrix.in() * bits(matrix.format.element) / 8,
            .scale_rows = block.rows,
            .scale_cols = block.cols};
  if (matrix.scales) {
    first_.groups = matrix.scales.shape()[2];
    first_.scale_row_bytes = first_.groups * bits(first_.scale) / 8;
    scale_rows_total_ = matrix.scales.shape()[1];
  }
  if (matrix.global_scale) {
    global_ = matrix.global_scale.as<float>();
    parts_ = matrix.global_scale.shape()[1];
  }
}

CpuGemm::CpuGemm(ConstTensorView matrix, Choice choice) {
  choice.method = Method::f32;
  choose(choice, std::nullopt);
  first_ = {.elements = matrix.as<std::uint8_t>(),
            .element = matrix.dtype,
            .out = matrix.shape[0],
            .in = matrix.shape[1],
            .row_bytes = matrix.shape[1] * bits(matrix.dtype) / 8};
}

void CpuGemm::choose(Choice choice, const std::optional<std::string>& fixed_declined) {
  isa_ = choice.isa;
  method_ = choice.method;
  if (!supported(isa_)) {
    throw Unsupported(
        fmt::format("[grouped_gemm] variant {}: this CPU lacks it. Use baseline.", name(isa_)));
  }
  kernels_ = &kernels(isa_);
  if (!fixed_declined || method_ == Method::f32) return;
  if (method_ == Method::fixed) {
    throw Unsupported(fmt::format("[grouped_gemm] variant fixed16: {}. Use f32.", *fixed_declined));
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

std::int64_t CpuGemm::tasks() const noexcept {
  return ceil_div(first_.out, kTaskRows);
}

MatrixView CpuGemm::view(std::int64_t expert) const {
  MatrixView view = first_;
  view.elements += expert * view.out * view.row_bytes;
  if (view.scales) view.scales += expert * scale_rows_total_ * view.scale_row_bytes;
  if (view.zeros) view.zeros += expert * view.out * view.groups;
  if (view.group_of_column) view.group_of_column += expert * view.in;
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
  if (method_ == Method::fixed || (method_ == Method::automatic && rows <= kFixedTokens)) {
    kernels_->multiply_fixed(w, x.fixed, block);
  } else {
    kernels_->multiply(w, x.f32, block);
  }
  if (!global_) return;
  const std::int64_t part_rows = w.out / parts_;
  for (std::int64_t r = 0; r < block.rows;) {
    const std::int64_t part = (first + r) / part_rows;
    const std::int64_t end = std::min(block.rows, (part + 1) * part_rows - first);
    const float global = global_[expert * parts_ + part];
    for (std::int64_t t = 0; t < rows; ++t) {
      float* row = block.y + t * block.y_stride;
      for (std::int64_t i = r; i < end; ++i) row[i] *= global;
    }
    r = end;
  }
}

std::int64_t padded_columns(std::int64_t in) noexcept {
  return round_up<std::int64_t>(in, kPad);
}

std::int64_t panels(std::int64_t in) noexcept {
  return ceil_div<std::int64_t>(in, kPad);
}

void pad_row(float* row, std::int64_t in) noexcept {
  std::fill(row + in, row + padded_columns(in), 0.0F);
}

void to_fixed(const float* row, std::int64_t in, FixedPanel* to) noexcept {
  kernels(best_isa()).to_fixed(row, panels(in), to);
}

}  // namespace switchyard::grouped_gemm
