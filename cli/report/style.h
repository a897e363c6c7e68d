#pragma once

namespace switchyard::cli::report {

/// Colours, light and dark, and what charts look like; for the page and for single SVG files.
extern const char* const kChartStyle;

/// The rest of the page.
extern const char* const kPageStyle;

}  // namespace switchyard::cli::report
