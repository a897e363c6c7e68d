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

Medians least_medians(std::span<const Costs> configs) {
  Medians least;
  for (std::size_t load = 0; load < kLoads.size(); ++load) {
    least[load] = std::numeric_limits<double>::infinity();
    for (const Costs& costs : configs) least[load] = std::min(least[load], costs[load].median_us);
  }
  return least;
}

double worst_regret(const Costs& config, const Medians& least) {
  double worst = 0;
  for (std::size_t load = 0; load < kLoads.size(); ++load)
    worst = std::max(worst, kLoadWeights[load] * (config[load].median_us / least[load] - 1));
  return worst;
}

std::size_t pick(std::span<const Costs> configs, const Medians& least) {
  SWITCHYARD_ASSERT(!configs.empty());
  constexpr double kTie = 0.01;
  std::vector<double> regrets;
  for (const Costs& costs : configs) regrets.push_back(worst_regret(costs, least));
  const double enough = *std::min_element(regrets.begin(), regrets.end()) + kTie;
  const auto first =
      std::find_if(regrets.begin(), regrets.end(), [&](double regret) { return regret <= enough; });
  return static_cast<std::size_t>(first - regrets.begin());
}

}  // namespace switchyard::tune
