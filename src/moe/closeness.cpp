#include "moe/closeness.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace switchyard::moe {
namespace {

/// f32 summation order: never demand more than this.
constexpr double kSummation = 0x1p-20;

bool same_kind(double a, double b) {
  if (std::isfinite(a) || std::isfinite(b)) return std::isfinite(a) == std::isfinite(b);
  return std::isnan(a) == std::isnan(b) && (std::isnan(a) || a == b);
}

struct Row {
  double scale = 0, honest = 0;  // largest |exact|; largest honest error relative to it
};

Row measure(std::span<const double> rounded, std::span<const double> exact) {
  Row row;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    if (!std::isfinite(exact[i]) || !std::isfinite(rounded[i])) continue;
    row.scale = std::max(row.scale, std::abs(exact[i]));
    row.honest = std::max(row.honest, std::abs(rounded[i] - exact[i]));
  }
  if (row.scale > 0) row.honest /= row.scale;
  return row;
}

double median(const std::vector<Row>& rows) {
  std::vector<double> values;
  for (const Row& row : rows)
    if (row.scale > 0) values.push_back(row.honest);
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

Closeness compare(std::span<const double> actual, std::span<const double> rounded,
                  std::span<const double> exact, std::size_t rows, double half_step) {
  Closeness close;
  if (exact.empty()) return close;
  const std::size_t cols = exact.size() / rows;
  std::vector<Row> measured;
  for (std::size_t r = 0; r < rows; ++r)
    measured.push_back(measure(rounded.subspan(r * cols, cols), exact.subspan(r * cols, cols)));
  const double least = median(measured);

  std::size_t zeros = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    if (exact[i] == 0) ++zeros;
    if (!same_kind(actual[i], exact[i])) close.finite_match = false;
    if (!std::isfinite(actual[i]) || !std::isfinite(exact[i])) continue;
    const Row& row = measured[i / cols];
    const double error = std::abs(actual[i] - exact[i]);
    const double allowed = row.scale * (std::max(row.honest, least) + half_step + kSummation);
    const double ratio = error == 0 ? 0 : allowed > 0 ? error / allowed : INFINITY;
    close.max_abs_error = std::max(close.max_abs_error, error);
    if (ratio <= close.worst_ratio) continue;
    close.worst_ratio = ratio;
    close.worst = i;
  }
  close.zeros = static_cast<double>(zeros) / static_cast<double>(exact.size());
  return close;
}

}  // namespace switchyard::moe
