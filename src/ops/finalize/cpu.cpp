#include <vector>

#include "base/check.h"
#include "base/expect.h"
#include "formats/convert.h"
#include "ops/finalize/problem.h"
#include "switchyard/ops.h"

namespace switchyard::ops {

void finalize(const FinalizeArgs& args, Device) {
  const Shape& weights = args.expert_weights.shape;
  require(weights.rank() == 2 && args.rows.shape.rank() == 1 && args.out.shape.rank() == 2,
          "[finalize] expected expert_weights [T, K], rows [R] and out [T, H], got {}, {} and {}.",
          to_string(weights), to_string(args.rows.shape), to_string(args.out.shape));
  const std::int64_t tokens = weights[0], top_k = weights[1];
  const std::int64_t rows = args.rows.shape[0], hidden = args.out.shape[1];
  expect("finalize", "expert_weights", args.expert_weights, weights, {DType::f32});
  expect("finalize", "rows", args.rows, {rows}, {DType::i32});
  expect("finalize", "expert_out", args.expert_out, {rows, hidden}, kPlainFloats);
  expect("finalize", "out", args.out, {tokens, hidden}, kPlainFloats);

  std::vector<std::int64_t> row_of(static_cast<std::size_t>(tokens * top_k), -1);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int32_t slot = args.rows.as<std::int32_t>()[r];
    if (slot == -1) continue;
    require(slot >= 0 && slot < tokens * top_k,
            "[finalize] rows: expected -1 or token * K + slot below {}, got {} at {}.",
            tokens * top_k, slot, r);
    row_of[static_cast<std::size_t>(slot)] = r;
  }

  std::vector<float> sum(static_cast<std::size_t>(hidden)), row(sum.size());
  for (std::int64_t t = 0; t < tokens; ++t) {
    std::fill(sum.begin(), sum.end(), 0.0F);
    for (std::int64_t slot = t * top_k; slot < (t + 1) * top_k; ++slot) {
      const std::int64_t r = row_of[static_cast<std::size_t>(slot)];
      if (r < 0) continue;  // left out: a weight of 0 would keep NaNs
      formats::load_run(args.expert_out.dtype, args.expert_out.data, r * hidden, hidden,
                        row.data());
      const float weight = args.expert_weights.as<float>()[slot];
      for (std::size_t h = 0; h < sum.size(); ++h) sum[h] += weight * row[h];
    }
    formats::store_run(args.out.dtype, args.out.data, t * hidden, hidden, sum.data());
  }
}

}  // namespace switchyard::ops
