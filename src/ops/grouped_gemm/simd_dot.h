#pragma once

#include "ops/grouped_gemm/simd_decode.h"

// y = x . w^T in f32. A panel of kPanelRows x kPanelColumns weights is decoded once into the first
// cache level; every token then passes it. The sum over columns runs in lanes, panel by panel, so
// neither the number of threads nor the number of tokens changes a bit of y.
namespace switchyard::grouped_gemm {
namespace {

constexpr std::int64_t kPanelRows = 12;

template <int kRows, int kTokens>
inline void dot(const float* w, const float* const* x, std::int64_t columns, bool first, float* y,
                std::int64_t y_stride) {
  F32 sums[kRows][4] = {};
  for (std::int64_t c = 0; c < columns; c += kLanes) {
    F32 weight[kRows];
    for (int r = 0; r < kRows; ++r) weight[r] = load<F32>(w + r * kPanelColumns + c);
    for (int t = 0; t < kTokens; ++t) {
      const F32 value = load<F32>(x[t] + c);
      for (int r = 0; r < kRows; ++r) sums[r][t] = multiply_add(value, weight[r], sums[r][t]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float total[4];
    sum4(sums[r], total);
    for (int t = 0; t < kTokens; ++t) {
      float& to = y[t * y_stride + r];
      to = first ? total[t] : to + total[t];
    }
  }
}

template <int kTokens>
void dot_rows(const float* panel, std::int64_t rows, const float* const* x, std::int64_t columns,
              bool first, float* y, std::int64_t y_stride) {
  // With few tokens more rows keep enough independent sums in flight.
  constexpr int kMany = kTokens <= 2 ? 6 : 3;
  std::int64_t r = 0;
  for (; r + kMany <= rows; r += kMany) {
    dot<kMany, kTokens>(panel + r * kPanelColumns, x, columns, first, y + r, y_stride);
  }
  for (; r < rows; ++r) {
    dot<1, kTokens>(panel + r * kPanelColumns, x, columns, first, y + r, y_stride);
  }
}

void multiply(const MatrixView& w, const FloatRows& x, const Block& block) {
  alignas(64) float panel[kPanelRows * kPanelColumns];
  for (std::int64_t r = 0; r < block.rows; r += kPanelRows) {
    const std::int64_t rows = block.rows - r < kPanelRows ? block.rows - r : kPanelRows;
    for (std::int64_t c = 0; c < w.in; c += kPanelColumns) {
      const std::int64_t count = w.in - c < kPanelColumns ? w.in - c : kPanelColumns;
      const std::int64_t padded = (count + 15) / 16 * 16;
      for (std::int64_t i = 0; i < rows; ++i) {
        decode(w, block.first_row + r + i, c, count, panel + i * kPanelColumns);
      }
      for (std::int64_t t = 0; t < block.tokens; t += 4) {
        const std::int64_t tokens = block.tokens - t < 4 ? block.tokens - t : 4;
        const float* from[4];
        for (std::int64_t i = 0; i < tokens; ++i) {
          from[i] = x.data + (block.index ? block.index[t + i] : t + i) * x.stride + c;
        }
        float* y = block.y + t * block.y_stride + r;
        switch (tokens) {
          case 1:
            dot_rows<1>(panel, rows, from, padded, c == 0, y, block.y_stride);
            break;
          case 2:
            dot_rows<2>(panel, rows, from, padded, c == 0, y, block.y_stride);
            break;
          case 3:
            dot_rows<3>(panel, rows, from, padded, c == 0, y, block.y_stride);
            break;
          default:
            dot_rows<4>(panel, rows, from, padded, c == 0, y, block.y_stride);
            break;
        }
      }
    }
  }
}

}  // namespace
}  // namespace switchyard::grouped_gemm
