// ops::grouped_gemm on a CPU: the same CpuGemm as the layer's plan, with scratch of its own.

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "base/expect.h"
#include "base/thread_pool.h"
#include "formats/convert.h"
#include "ops/grouped_gemm/activation.h"
#include "ops/grouped_gemm/cpu.h"
#include "switchyard/ops.h"

namespace switchyard::ops {
namespace {

using grouped_gemm::CpuGemm;
using grouped_gemm::padded_columns;

std::int64_t out_columns(const GroupedGemmArgs& args) {
  const bool gated = args.activation != nullptr && args.activation->gated();
  return gated ? args.weights->out() / 2 : args.weights->out();
}

void check_groups(const GroupedGemmArgs& args, std::int64_t rows) {
  const std::int64_t experts = args.weights->experts();
  expect("grouped_gemm", "offsets", args.offsets, {experts + 1}, {DType::i64});
  const std::int64_t* offsets = args.offsets.as<std::int64_t>();
  require(offsets[0] == 0 && offsets[experts] == rows && std::is_sorted(offsets, offsets + experts),
          "[grouped_gemm] offsets: expected to rise from 0 to the {} rows of out, got {} to {}.",
          rows, offsets[0], offsets[experts]);
  for (std::int64_t e = 0; e < experts; ++e)
    require(offsets[e] <= offsets[e + 1],
            "[grouped_gemm] offsets: expected to rise, got {} after {} at {}.", offsets[e + 1],
            offsets[e], e + 1);
  if (!args.rows) {
    require(args.x.shape[0] == rows, "[grouped_gemm] x: expected {} rows without `rows`, got {}.",
            rows, args.x.shape[0]);
    return;
  }
  expect("grouped_gemm", "rows", args.rows, {rows}, {DType::i32});
  const std::int64_t slots = args.x.shape[0] * args.top_k;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int32_t slot = args.rows.as<std::int32_t>()[r];
    require(slot >= 0 && slot < slots,
            "[grouped_gemm] rows: expected token * top_k + slot in [0, {}), got {} at {}.", slots,
            slot, r);
  }
}

void check_args(const GroupedGemmArgs& args) {
  require(args.weights != nullptr, "[grouped_gemm] weights: expected a matrix, got none.");
  check(*args.weights, "grouped_gemm");
  require(args.top_k >= 1, "[grouped_gemm] top_k: expected at least 1, got {}.", args.top_k);
  require(args.x.shape.rank() == 2 && args.out.shape.rank() == 2,
          "[grouped_gemm] expected x [T, in] and out [R, n], got {} and {}.",
          to_string(args.x.shape), to_string(args.out.shape));
  const bool gated = args.activation != nullptr && args.activation->gated();
  require(!gated || args.weights->out() % 2 == 0,
          "[grouped_gemm] weights: expected an even number of rows behind a gate, got {}.",
          args.weights->out());
  expect("grouped_gemm", "x", args.x, {args.x.shape[0], args.weights->in()}, kPlainFloats);
  expect("grouped_gemm", "out", args.out, {args.out.shape[0], out_columns(args)}, kPlainFloats);
  check_groups(args, args.out.shape[0]);
}

/// x row by row of the result, times the expert's input factor, as the GEMM reads it.
class Operand {
 public:
  Operand(const GroupedGemmArgs& args, const CpuGemm& gemm)
      : stride_(padded_columns(gemm.in())),
        f32_(DType::f32, {args.out.shape[0], stride_}),
        panels_(grouped_gemm::panels(gemm.in())) {
    if (gemm.may_use_fixed()) fixed_.resize(static_cast<std::size_t>(args.out.shape[0] * panels_));
    const std::int64_t in = gemm.in();
    const Tensor& factors = args.weights->input_factor;
    const std::int64_t* offsets = args.offsets.as<std::int64_t>();
    std::int64_t expert = 0;
    for (std::int64_t r = 0; r < args.out.shape[0]; ++r) {
      while (r >= offsets[expert + 1]) ++expert;
      const std::int64_t from = args.rows ? args.rows.as<std::int32_t>()[r] / args.top_k : r;
      float* row = f32_.as<float>() + r * stride_;
      formats::load_run(args.x.dtype, args.x.data, from * in, in, row);
      if (factors) {
        const float* factor = factors.as<float>() + (factors.shape()[0] > 1 ? expert * in : 0);
        for (std::int64_t c = 0; c < in; ++c) row[c] *= factor[c];
      }
      grouped_gemm::pad_row(row, in);
      if (!fixed_.empty()) grouped_gemm::to_fixed(row, in, fixed_.data() + r * panels_);
    }
  }

  CpuGemm::Rows from_row(std::int64_t first) {
    CpuGemm::Rows rows;
    rows.f32 = {f32_.as<float>() + first * stride_, stride_};
    if (!fixed_.empty()) rows.fixed = {fixed_.data() + first * panels_, panels_};
    return rows;
  }

 private:
  std::int64_t stride_;
  Tensor f32_;
  std::int64_t panels_;
  std::vector<grouped_gemm::FixedPanel> fixed_;
};

/// Bias, activation and the output's type, for row r of expert e.
void store_row(const GroupedGemmArgs& args, std::int64_t expert, std::int64_t r, float* y) {
  const std::int64_t out = args.weights->out(), columns = out_columns(args);
  if (args.weights->bias) {
    const float* bias = args.weights->bias.as<float>() + expert * out;
    for (std::int64_t i = 0; i < out; ++i) y[i] += bias[i];
  }
  if (args.activation != nullptr) {
    const std::int64_t up = args.activation->gated() ? columns : 0;
    for (std::int64_t i = 0; i < columns; ++i)
      y[i] = grouped_gemm::activate(*args.activation, y[i], y[up + i]);
  }
  formats::store_run(args.out.dtype, args.out.data, r * columns, columns, y);
}

}  // namespace

void grouped_gemm(const GroupedGemmArgs& args, Device device) {
  check_args(args);
  const std::int64_t rows = args.out.shape[0], out = args.weights->out();
  if (rows == 0) return;
  const bool short_floats = args.x.dtype == DType::bf16 && !args.weights->input_factor;
  const CpuGemm gemm(*args.weights,
                     short_floats ? grouped_gemm::Precision::bf16 : grouped_gemm::Precision::f32);
  Operand x(args, gemm);
  Tensor y(DType::f32, {rows, out});
  const std::int64_t* offsets = args.offsets.as<std::int64_t>();
  ThreadPool pool(device.threads > 0 ? device.threads : usable_cores());
  pool.parallel_for(args.weights->experts() * gemm.tasks(), [&](std::int64_t task, int) {
    const std::int64_t expert = task / gemm.tasks(), first = offsets[expert];
    const std::int64_t count = offsets[expert + 1] - first;
    if (count == 0) return;
    gemm.run(expert, task % gemm.tasks(), x.from_row(first), count, y.as<float>() + first * out);
  });
  pool.parallel_for(args.weights->experts(), [&](std::int64_t expert, int) {
    for (std::int64_t r = offsets[expert]; r < offsets[expert + 1]; ++r)
      store_row(args, expert, r, y.as<float>() + r * out);
  });
}

}  // namespace switchyard::ops
