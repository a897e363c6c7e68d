#include "tune/cost.h"

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace switchyard::tune {

Cost cost_of(std::vector<double> us) {
  SWITCHYARD_ASSERT(!us.empty());
  std::sort(us.begin(), us.end());
  const std::size_t n = us.size();
  return {.median_us = (us[(n - 1) / 2] + us[n / 2]) / 2,
          .spread_us = us[n - 1 - n / 10] - us[n / 10]};
}

std::vector<double> worst_ratios(std::span<const Costs> configs) {
  std::vector<double> worst(configs.size(), 1);
  for (std::size_t load = 0; load < kLoads.size(); ++load) {
    double least = std::numeric_limits<double>::infinity();
    for (const Costs& costs : configs) least = std::min(least, costs[load].median_us);
    for (std::size_t i = 0; i < configs.size(); ++i)
      worst[i] = std::max(worst[i], configs[i][load].median_us / least);
  }
  return worst;
}

std::size_t pick(std::span<const Costs> configs) {
  SWITCHYARD_ASSERT(!configs.empty());
  constexpr double kTie = 1.01;
  const std::vector<double> worst = worst_ratios(configs);
  const double enough = kTie * *std::min_element(worst.begin(), worst.end());
  const auto first =
      std::find_if(worst.begin(), worst.end(), [&](double ratio) { return ratio <= enough; });
  return static_cast<std::size_t>(first - worst.begin());
}

}  // namespace switchyard::tune
