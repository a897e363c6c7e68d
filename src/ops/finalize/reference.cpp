#include "ops/finalize/problem.h"

namespace switchyard::finalize {

void reference(std::span<const double> expert_out, std::span<const std::int32_t> rows,
               std::span<const double> weights, int top_k, std::span<double> out) {
  const std::size_t tokens = weights.size() / static_cast<std::size_t>(top_k);
  const std::size_t hidden = tokens == 0 ? 0 : out.size() / tokens;
  for (double& value : out) value = 0;
  for (std::size_t slot = 0; slot < weights.size(); ++slot)
    for (std::size_t r = 0; r < rows.size(); ++r) {
      if (rows[r] != static_cast<std::int32_t>(slot)) continue;
      const std::size_t token = slot / static_cast<std::size_t>(top_k);
      for (std::size_t h = 0; h < hidden; ++h)
        out[token * hidden + h] += weights[slot] * expert_out[r * hidden + h];
    }
}

}  // namespace switchyard::finalize
