#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace switchyard::tune {

/// How a batch's tokens fall on the experts: every expert as likely, popularity falling with rank,
/// all tokens on the same k. The words of routing_load= in a problem line. Not exactly as often:
/// tiles that just fit that are the worst as soon as an expert has one token more.
inline constexpr std::array<std::string_view, 3> kLoads = {"random", "zipf", "hot"};
/// What a regret under a load counts: layers meet even loads much more than skewed ones.
inline constexpr std::array<double, kLoads.size()> kLoadWeights = {1, 0.15, 0.04};

/// What a config costs under one load. The median moves little for a few samples that were far too
/// fast or too slow.
struct Cost {
  double median_us = 0;
  double spread_us = 0;  ///< from the 10th to the 90th percentile
  friend bool operator==(const Cost&, const Cost&) = default;
};
using Costs = std::array<Cost, kLoads.size()>;

/// Of at least one sample, in microseconds.
Cost cost_of(std::vector<double> samples_us);

/// Of each load, in microseconds.
using Medians = std::array<double, kLoads.size()>;
Medians least_medians(std::span<const Costs> configs);

/// The share by which a config takes longer than `least`, times the load's weight, under the load
/// where that is most. 0: the best under every load.
double worst_regret(const Costs& config, const Medians& least);

/// The first config whose worst regret is within 1 % of the least: between equals the order
/// decides, not the noise. `configs` may not be empty.
std::size_t pick(std::span<const Costs> configs, const Medians& least);

}  // namespace switchyard::tune
