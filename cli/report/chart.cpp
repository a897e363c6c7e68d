#include "cli/report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

namespace switchyard::cli::report {
namespace {

constexpr double kLeft = 42, kRight = 244, kTop = 58, kBottom = 248;  // of the plot
constexpr double kLabelLeft = kRight + 10, kLabelGap = 13;
constexpr int kMostTicks = 7;
constexpr std::size_t kColors = 8;

/// Values to pixels, and where the ticks are.
struct Scale {
  double low = 0, high = 1, from = 0, to = 1;  // low lands on `from`
  bool logarithmic = true;
  std::vector<double> ticks;

  double operator()(double value) const {
    const double share =
        logarithmic ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
    return from + share * (to - from);
  }
};

/// Powers of `base` from `low` to `high`, with as large steps as keep them few.
std::vector<double> powers(double low, double high, int base) {
  constexpr double kSlack = 1e-9;
  const double log_base = std::log(base);
  const int first = static_cast<int>(std::ceil(std::log(low) / log_base - kSlack));
  const int last = static_cast<int>(std::floor(std::log(high) / log_base + kSlack));
  const int step = std::max(1, (last - first) / kMostTicks + 1);
  std::vector<double> ticks;
  for (int power = first; power <= last; power += step) ticks.push_back(std::pow(base, power));
  return ticks;
}

/// 1, 2 and 5 times powers of ten where powers alone would be too few.
std::vector<double> decimal_ticks(double low, double high) {
  std::vector<double> ticks = powers(low, high, 10);
  if (ticks.size() > 3) return ticks;
  ticks.clear();
  for (double power = std::pow(10, std::floor(std::log10(low))); power <= high; power *= 10)
    for (const double digit : {1, 2, 5})
      if (digit * power >= low * 0.999 && digit * power <= high * 1.001)
        ticks.push_back(digit * power);
  return ticks;
}

std::vector<double> linear_ticks(double low, double high) {
  const double rough = (high - low) / kMostTicks;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double digit : {5, 2, 1})
    if (digit * power >= rough) step = digit * power;
  std::vector<double> ticks;
  for (double i = std::ceil(low / step); i * step <= high; ++i) ticks.push_back(i * step);
  return ticks;
}

struct Range {
  double low = std::numeric_limits<double>::max(), high = std::numeric_limits<double>::lowest();
  void add(double value) { low = std::min(low, value), high = std::max(high, value); }
};

Scale x_scale(const Chart& chart) {
  Range range;
  for (const Line& line : chart.lines)
    for (const Point& point : line.points) range.add(point.x);
  if (range.low == range.high) range.low /= 2, range.high *= 2;
  return {range.low, range.high, kLeft + 8,
          kRight,    true,       powers(range.low, range.high, chart.x_base)};
}

Scale y_scale(const Chart& chart) {
  Range range;
  for (const Line& line : chart.lines)
    for (const Point& point : line.points) range.add(point.y);
  if (chart.y_scale == Chart::Scale::linear) {
    const double margin = std::max(0.1 * (range.high - range.low), 0.01 * range.high);
    const double low = range.low - margin, high = range.high + margin;
    return {low, high, kBottom, kTop, false, linear_ticks(low, high)};
  }
  const double low = range.low / 1.2, high = range.high * 1.2;
  return {low, high, kBottom, kTop, true, decimal_ticks(low, high)};
}

/// "0.98", "500", "50k"
std::string short_number(double value) {
  return value < 1e4 || std::fmod(value, 1000) != 0 ? fmt::format("{:.5g}", value)
                                                    : fmt::format("{:g}k", value / 1000);
}

std::string text(double x, double y, const char* style, std::string_view words) {
  return fmt::format(R"(<text x="{:.1f}" y="{:.1f}" class="{}">{}</text>)", x, y, style,
                     escaped(words));
}

std::string axes(const Chart& chart, const Scale& x, const Scale& y) {
  std::string svg;
  for (const double tick : y.ticks) {
    svg += fmt::format(R"(<path class="grid" d="M{:.1f} {:.1f}H{:.1f}"/>)", kLeft, y(tick), kRight);
    svg += text(kLeft - 5, y(tick) + 4, "tick y", short_number(tick));
  }
  for (const double tick : x.ticks) {
    svg += fmt::format(R"(<path class="grid" d="M{:.1f} {:.1f}v4"/>)", x(tick), kBottom);
    svg += text(x(tick), kBottom + 16, "tick x", short_number(tick));
  }
  svg += fmt::format(R"(<path class="axis" d="M{:.1f} {:.1f}H{:.1f}"/>)", kLeft, kBottom, kRight);
  svg += text((kLeft + kRight) / 2, kBottom + 33, "name x", chart.x_name);
  svg += text(4, kTop - 12, "name", chart.y_name);
  return svg;
}

/// Where the names of lines stand: as near to the lines' ends as they can without touching.
std::vector<double> label_heights(std::vector<double> wanted) {
  std::vector<std::size_t> order(wanted.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return wanted[a] < wanted[b]; });
  double lowest = kTop - kLabelGap;
  for (const std::size_t i : order) lowest = wanted[i] = std::max(wanted[i], lowest + kLabelGap);
  double highest = kBottom + kLabelGap;
  for (auto i = order.rbegin(); i != order.rend(); ++i)
    highest = wanted[*i] = std::min(wanted[*i], highest - kLabelGap);
  return wanted;
}

std::string drawn(const Line& line, const Scale& x, const Scale& y) {
  std::string path, dots;
  for (const Point& point : line.points) {
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? 'M' : 'L', x(point.x), y(point.y));
    if (!point.tip.empty())
      dots += fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="3"><title>{}</title></circle>)",
                          x(point.x), y(point.y), escaped(point.tip));
  }
  return fmt::format(R"(<g class="line {}"><path d="{}"/>{}</g>)", line.style, path, dots);
}

std::string labels(const Chart& chart, const Scale& x, const Scale& y) {
  std::vector<double> ends;
  for (const Line& line : chart.lines) ends.push_back(y(line.points.back().y));
  const std::vector<double> heights = label_heights(ends);
  std::string svg;
  for (std::size_t i = 0; i < ends.size(); ++i) {
    const Line& line = chart.lines[i];
    svg += fmt::format(R"(<path class="leader" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>)",
                       x(line.points.back().x) + 4, ends[i], kLabelLeft - 2, heights[i]);
    svg += text(kLabelLeft, heights[i] + 4, ("label " + line.style).c_str(), line.name);
  }
  return svg;
}

}  // namespace

std::string color(std::size_t i) {
  return fmt::format("c{}", i % kColors);
}

std::string to_svg(const Chart& chart) {
  const Scale x = x_scale(chart), y = y_scale(chart);
  std::string svg = text(4, 14, "title", chart.title) + text(4, 29, "tick", chart.subtitle);
  svg += axes(chart, x, y);
  // The first line is the one that matters: on top of the others.
  for (auto line = chart.lines.rbegin(); line != chart.lines.rend(); ++line)
    svg += drawn(*line, x, y);
  return svg + labels(chart, x, y);
}

std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : text) switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      default:
        safe += c;
    }
  return safe;
}

std::string three_digits(double value) {
  if (value < 1) return fmt::format("{:.3g}", value);
  return fmt::format("{:.{}f}", value, value < 10 ? 2 : value < 100 ? 1 : 0);
}

}  // namespace switchyard::cli::report
