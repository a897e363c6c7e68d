#include <algorithm>

#include "base/check.h"
#include "base/math.h"
#include "formats/scale_layout.cuh"
#include "switchyard/ops.h"

namespace switchyard::ops {
namespace {

std::int64_t offset(ScaleLayout layout, std::int64_t row, std::int64_t col, std::int64_t cols) {
  switch (layout) {
    case ScaleLayout::linear:
      return formats::offset_linear(row, col, cols);
    case ScaleLayout::swizzled_128x4:
      return formats::offset_128x4(row, col, cols);
    case ScaleLayout::swizzled_8x4:
      return formats::offset_8x4(row, col, cols);
  }
  return 0;
}

void require_size(const char* where, const char* what, std::size_t bytes, std::int64_t batch,
                  std::int64_t each) {
  require(static_cast<std::int64_t>(bytes) == batch * each,
          "[{}] {}: expected {} x {} bytes, got {}.", where, what, batch, each, bytes);
}

void check_extents(const char* where, std::int64_t batch, std::int64_t rows, std::int64_t cols) {
  require(batch >= 0 && rows >= 0 && cols >= 0,
          "[{}] batch, rows, cols: expected counts, got {}, {}, {}.", where, batch, rows, cols);
}

}  // namespace

std::int64_t scale_bytes(ScaleLayout layout, std::int64_t rows, std::int64_t cols) noexcept {
  switch (layout) {
    case ScaleLayout::linear:
      return formats::bytes_linear(rows, cols);
    case ScaleLayout::swizzled_128x4:
      return formats::bytes_128x4(rows, cols);
    case ScaleLayout::swizzled_8x4:
      return formats::bytes_8x4(rows, cols);
  }
  return 0;
}

void swizzle_scales(ScaleLayout layout, std::int64_t batch, std::int64_t rows, std::int64_t cols,
                    std::span<const std::uint8_t> linear, std::span<std::uint8_t> swizzled) {
  check_extents("swizzle_scales", batch, rows, cols);
  const std::int64_t each = scale_bytes(layout, rows, cols);
  require_size("swizzle_scales", "linear", linear.size(), batch, rows * cols);
  require_size("swizzle_scales", "swizzled", swizzled.size(), batch, each);
  std::ranges::fill(swizzled, std::uint8_t{0});
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t col = 0; col < cols; ++col)
        swizzled[static_cast<std::size_t>(b * each + offset(layout, row, col, cols))] =
            linear[static_cast<std::size_t>((b * rows + row) * cols + col)];
}

void unswizzle_scales(ScaleLayout layout, std::int64_t batch, std::int64_t rows, std::int64_t cols,
                      std::span<const std::uint8_t> swizzled, std::span<std::uint8_t> linear) {
  check_extents("unswizzle_scales", batch, rows, cols);
  const std::int64_t each = scale_bytes(layout, rows, cols);
  require_size("unswizzle_scales", "swizzled", swizzled.size(), batch, each);
  require_size("unswizzle_scales", "linear", linear.size(), batch, rows * cols);
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t col = 0; col < cols; ++col)
        linear[static_cast<std::size_t>((b * rows + row) * cols + col)] =
            swizzled[static_cast<std::size_t>(b * each + offset(layout, row, col, cols))];
}

void merge_scales(ScaleLayout layout, std::int64_t parts, std::int64_t rows, std::int64_t cols,
                  std::span<const std::uint8_t> in, std::span<std::uint8_t> out) {
  check_extents("merge_scales", parts, rows, cols);
  const std::int64_t each = scale_bytes(layout, rows, cols);
  require_size("merge_scales", "in", in.size(), parts, each);
  require_size("merge_scales", "out", out.size(), 1, scale_bytes(layout, parts * rows, cols));
  std::ranges::fill(out, std::uint8_t{0});
  for (std::int64_t part = 0; part < parts; ++part)
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t col = 0; col < cols; ++col)
        out[static_cast<std::size_t>(offset(layout, part * rows + row, col, cols))] =
            in[static_cast<std::size_t>(part * each + offset(layout, row, col, cols))];
}

}  // namespace switchyard::ops
