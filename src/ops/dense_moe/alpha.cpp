#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/expect.h"
#include "switchyard/ops.h"

namespace switchyard::ops {

void fc2_alpha(const Fc2AlphaArgs& args) {
  const Shape& ids = args.expert_ids.shape;
  require(ids.rank() == 2 && args.alpha.shape.rank() == 1,
          "[fc2_alpha] expected expert_ids [T, K] and alpha [E], got {} and {}.", to_string(ids),
          to_string(args.alpha.shape));
  const std::int64_t tokens = ids[0], top_k = ids[1], experts = args.alpha.shape[0];
  expect("fc2_alpha", "expert_ids", args.expert_ids, ids, {DType::i32});
  expect("fc2_alpha", "expert_weights", args.expert_weights, ids, {DType::f32});
  expect("fc2_alpha", "alpha", args.alpha, {experts}, {DType::f32});
  expect("fc2_alpha", "out", args.out,
         args.token_major ? Shape{experts, tokens} : Shape{tokens, experts}, {DType::f32});
  require(args.alpha_max >= 0 && std::isfinite(args.alpha_max),
          "[fc2_alpha] alpha_max: expected a positive number, or 0 not to divide, got {}.",
          args.alpha_max);
  for (std::int64_t i = 0; i < tokens * top_k; ++i) {
    const std::int32_t e = args.expert_ids.as<std::int32_t>()[i];
    require(e >= -1 && e < experts, "[fc2_alpha] expert_ids: expected -1..{}, got {} for token {}.",
            experts - 1, e, i / top_k);
  }

  float* out = args.out.as<float>();
  std::memset(out, 0, static_cast<std::size_t>(args.out.bytes()));
  for (std::int64_t i = 0; i < tokens * top_k; ++i) {
    const std::int32_t e = args.expert_ids.as<std::int32_t>()[i];
    if (e < 0) continue;
    float value = args.expert_weights.as<float>()[i] * args.alpha.as<float>()[e];
    if (args.alpha_max > 0) value /= args.alpha_max;
    const std::int64_t token = i / top_k;
    out[args.token_major ? e * tokens + token : token * experts + e] = value;
  }
}

}  // namespace switchyard::ops
