#include "cli/run_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numeric>

namespace switchyard::cli {
namespace {

double half_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double magnitude = exponent == 0   ? std::ldexp(mantissa, -24)
                           : exponent < 31 ? std::ldexp(1024 + mantissa, exponent - 25)
                           : mantissa == 0 ? INFINITY
                                           : NAN;
  return bits >> 15 != 0 ? -magnitude : magnitude;
}

/// The first values of a bf16, f16 or f32 array.
std::vector<double> first_values(const Tensor& tensor, std::int64_t count) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < std::min(count, tensor.shape().elements()); ++i) {
    if (tensor.dtype() == DType::f32)
      values.push_back(tensor.as<float>()[i]);
    else if (tensor.dtype() == DType::f16)
      values.push_back(half_value(tensor.as<std::uint16_t>()[i]));
    else
      values.push_back(std::bit_cast<float>(std::uint32_t{tensor.as<std::uint16_t>()[i]} << 16));
  }
  return values;
}

std::string busiest(const std::vector<int>& counts) {
  std::vector<int> order(counts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return counts[static_cast<std::size_t>(a)] > counts[static_cast<std::size_t>(b)];
  });
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(order.size(), 6); ++i) {
    const int count = counts[static_cast<std::size_t>(order[i])];
    if (count > 0) text += fmt::format("{}#{} {}", i == 0 ? "" : ", ", order[i], count);
  }
  return text;
}

}  // namespace

std::vector<int> tokens_per_expert(const RunReport& report) {
  const MoeConfig& config = report.config;
  std::vector<int> counts(static_cast<std::size_t>(config.experts + config.routing.zero_experts));
  for (std::int64_t i = 0; i < report.expert_ids.shape().elements(); ++i) {
    const auto id = static_cast<std::size_t>(report.expert_ids.as<std::int32_t>()[i]);
    if (id < counts.size()) ++counts[id];
  }
  return counts;
}

void print(const RunReport& report) {
  const std::vector<int> counts = tokens_per_expert(report);
  const auto used = std::count_if(counts.begin(), counts.end(), [](int n) { return n > 0; });
  fmt::print("layer    {} of {}: {}\n", report.layer.layer, report.family, describe(report.config));
  fmt::print("weights  {} ({}), {} loaded in {}\n", formats(report.layer), report.layer.scheme,
             human_bytes(report.weight_bytes), human_time(report.load_seconds * 1e6));
  if (report.tp.ranks > 1 || report.ep.ranks > 1)
    fmt::print("part     tp {}/{}, ep {}/{}: the output is this part's share of the sum\n",
               report.tp.rank, report.tp.ranks, report.ep.rank, report.ep.ranks);
  fmt::print("run      {} tokens on {} in {} (median of {})\n", report.tokens(),
             to_string(report.device), human_time(report.median_us()), report.run_us.size());
  fmt::print("experts  {} of {} used; tokens each: {}\n", used, counts.size(), busiest(counts));
  if (report.counters.bad_expert_ids + report.counters.non_finite_weights +
          report.counters.non_finite_logits >
      0)
    fmt::print("dropped  {} expert ids out of range, {} weights and {} logits not finite\n",
               report.counters.bad_expert_ids, report.counters.non_finite_weights,
               report.counters.non_finite_logits);
  fmt::print("output   {} {}, first values {:.4g}\n", to_string(report.out.shape()),
             name(report.out.dtype()), fmt::join(first_values(report.out, 6), " "));
  if (report.check) fmt::print("check    {}\n", describe(*report.check));
}

Json to_json(const RunReport& report) {
  Json json = {{"family", report.family},
               {"layer", to_json(report.layer)},
               {"config", to_json(report.config)},
               {"tp", fmt::format("{}/{}", report.tp.rank, report.tp.ranks)},
               {"ep", fmt::format("{}/{}", report.ep.rank, report.ep.ranks)},
               {"device", to_string(report.device)},
               {"weight_bytes", report.weight_bytes},
               {"load_seconds", report.load_seconds},
               {"tokens", report.tokens()},
               {"median_us", report.median_us()},
               {"samples", report.run_us.size()},
               {"tokens_per_expert", tokens_per_expert(report)},
               {"bad_expert_ids", report.counters.bad_expert_ids},
               {"non_finite_weights", report.counters.non_finite_weights},
               {"non_finite_logits", report.counters.non_finite_logits},
               {"first_values", first_values(report.out, 6)}};
  if (report.check) json["check"] = to_json(*report.check);
  return json;
}

}  // namespace switchyard::cli
