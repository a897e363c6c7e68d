#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace switchyard::tune {

/// How a batch's tokens fall on the experts: every expert as often, popularity falling with rank,
/// all tokens on the same k. The words of routing_load= in a problem line.
inline constexpr std::array<std::string_view, 3> kLoads = {"balanced", "zipf", "hot"};

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

/// For each config: how many times the least median of a load it takes, under the load where that
/// is most. 1: the best under every load.
std::vector<double> worst_ratios(std::span<const Costs> configs);

/// The first config whose worst ratio is within 1 % of the least: between equals the order decides,
/// not the noise. `configs` may not be empty.
std::size_t pick(std::span<const Costs> configs);

}  // namespace switchyard::tune
