#pragma once

#include <string>
#include <vector>

#include "cli/report/sections.h"

namespace switchyard::cli::report {

/// What the page says about itself.
struct Source {
  std::vector<std::string> files, against;
  Results results;
};

/// One HTML page that needs nothing beside itself.
std::string page(const Source& source, const std::vector<Section>& sections);

/// The charts of one section as an SVG file, two side by side.
std::string svg_file(const Section& section);

}  // namespace switchyard::cli::report
