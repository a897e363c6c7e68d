#pragma once

#include <algorithm>
#include <array>
#include <cmath>

namespace switchyard {

/// What a batch may need whose tokens choose at random.
struct ExpectedRows {
  double experts;              ///< that have any
  std::array<double, 3> rows;  ///< of one of them: the mean, and about a deviation less and more
};

inline ExpectedRows expected_rows(int tokens, int slots_a_token, int lists) {
  const double pairs = static_cast<double>(tokens) * slots_a_token, all = std::max(1, lists);
  const double reached = std::max(1.0, all * (1 - std::pow(1 - 1 / all, pairs)));
  const double mean = std::max(1.0, pairs / reached), deviation = std::sqrt(mean);
  return {.experts = reached, .rows = {std::max(1.0, mean - deviation), mean, mean + deviation}};
}

}  // namespace switchyard
