#include <algorithm>
#include <limits>
#include <vector>

#include "base/check.h"
#include "base/expect.h"
#include "switchyard/ops.h"

namespace switchyard {

void ops::group_by_expert(ConstTensorView expert_ids, TensorView offsets, TensorView rows) {
  require(expert_ids.shape.rank() == 2, "[group_by_expert] expert_ids: expected [T, K], got {}.",
          to_string(expert_ids.shape));
  const std::int64_t slots = expert_ids.shape.elements();
  require(slots <= std::numeric_limits<std::int32_t>::max(),
          "[group_by_expert] expert_ids: expected at most 2^31 - 1 slots, got {}.", slots);
  require(offsets.shape.rank() == 1 && offsets.shape[0] >= 1,
          "[group_by_expert] offsets: expected [E + 1], got {}.", to_string(offsets.shape));
  expect("group_by_expert", "expert_ids", expert_ids, expert_ids.shape, {DType::i32});
  expect("group_by_expert", "offsets", offsets, offsets.shape, {DType::i64});
  expect("group_by_expert", "rows", rows, {slots}, {DType::i32});

  const std::int64_t experts = offsets.shape[0] - 1;
  const std::int32_t* ids = expert_ids.as<std::int32_t>();
  std::int64_t* offset = offsets.as<std::int64_t>();
  std::fill(offset, offset + experts + 1, 0);
  for (std::int64_t i = 0; i < slots; ++i)
    if (ids[i] >= 0 && ids[i] < experts) ++offset[ids[i] + 1];
  for (std::int64_t e = 0; e < experts; ++e) offset[e + 1] += offset[e];

  std::vector<std::int64_t> next(offset, offset + experts);
  std::int32_t* row = rows.as<std::int32_t>();
  std::fill(row, row + slots, -1);
  for (std::int64_t i = 0; i < slots; ++i)
    if (ids[i] >= 0 && ids[i] < experts)
      row[next[static_cast<std::size_t>(ids[i])]++] = static_cast<std::int32_t>(i);
}

}  // namespace switchyard
