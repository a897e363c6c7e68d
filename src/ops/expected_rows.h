#pragma once

#include <algorithm>
#include <array>
#include <cmath>

namespace switchyard {

/// What a batch may need whose tokens choose at random.
struct ExpectedRows {
  double experts;               ///< that have any
  std::array<double, 16> rows;  ///< of one of them: samples that are as likely
};

inline ExpectedRows expected_rows(int tokens, int slots_a_token, int lists) {
  const double pairs = static_cast<double>(tokens) * slots_a_token, all = std::max(1, lists);
  const double reached = std::max(1.0, all * (1 - std::pow(1 - 1 / all, pairs)));
  const double mean = std::max(1.0, pairs / reached), deviation = std::sqrt(mean);
  ExpectedRows expected = {.experts = reached, .rows = {}};
  // The middles of 16 parts that are as likely, in deviations.
  constexpr double kNormal[] = {0.08, 0.24, 0.40, 0.58, 0.78, 1.01, 1.32, 1.86};
  for (std::size_t i = 0; i < 8; ++i) {
    expected.rows[i] = std::max(1.0, mean - kNormal[i] * deviation);
    expected.rows[8 + i] = mean + kNormal[i] * deviation;
  }
  return expected;
}

}  // namespace switchyard
