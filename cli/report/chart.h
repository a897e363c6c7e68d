#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace switchyard::cli::report {

struct Point {
  double x = 0, y = 0;
  std::string tip;  ///< what pointing at it says
};

/// Points from left to right, and the name that stands at its right end.
struct Line {
  std::string name;
  std::string style;  ///< class in the style sheet: "floor", or color(i)
  std::vector<Point> points;
};

/// Lines over logarithmic x; y is logarithmic too, or starts nowhere in particular (linear).
struct Chart {
  enum class Scale { logarithmic, linear };
  std::string title, subtitle;
  std::string x_name, y_name;  ///< with units
  int x_base = 2;              ///< ticks are powers of it
  Scale y_scale = Scale::logarithmic;
  std::vector<Line> lines = {};
};

constexpr int kChartWidth = 396, kChartHeight = 290;

/// The class of the i-th colour; ours is the 0th. They repeat after eight.
std::string color(std::size_t i);

/// The inside of an <svg> of kChartWidth x kChartHeight.
std::string to_svg(const Chart& chart);

/// For text and attributes of HTML and SVG.
std::string escaped(std::string_view text);

/// "0.0254", "0.48", "39.3", "2150": three digits, and whole from 100 on.
std::string three_digits(double value);

}  // namespace switchyard::cli::report
