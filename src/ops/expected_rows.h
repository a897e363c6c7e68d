#pragma once

#include <algorithm>
#include <array>
#include <cmath>

namespace switchyard {

/// How many rows an expert that has any may have: its mean and about the deviation from it, as if
/// tokens chose at random.
inline std::array<double, 3> expected_rows(int tokens, int slots_a_token, int lists) {
  const double pairs = static_cast<double>(tokens) * slots_a_token, all = std::max(1, lists);
  const double reached = std::max(1.0, all * (1 - std::pow(1 - 1 / all, pairs)));
  const double mean = std::max(1.0, pairs / reached), deviation = std::sqrt(mean);
  return {std::max(1.0, mean - deviation), mean, mean + deviation};
}

}  // namespace switchyard
