#pragma once

#include <string>
#include <vector>

#include "cli/report/chart.h"
#include "cli/report/layers.h"

namespace switchyard::cli::report {

struct Table {
  std::string name;  ///< its caption; "" beside a chart that says it
  std::vector<std::string> head;
  struct Cell {
    std::string text;
    std::string style;  ///< class in the style sheet, or ""
  };
  std::vector<std::vector<Cell>> rows;  ///< the first cell of each names the row
};

/// A chart with its numbers, or a table that is a chart by its colours.
struct Figure {
  std::vector<Chart> chart;  ///< none or one
  Table table;
};

/// One question that the page answers.
struct Section {
  std::string id, title, text;
  std::vector<Figure> figures;
};

/// latency, efficiency, roofline, tactics, experts, top-k, and changes if `against` has rows;
/// those without anything to show are left out.
std::vector<Section> sections_of(const std::vector<Row>& rows, const std::vector<Row>& against);

/// What got slower or faster since another set of results; no figures if no cell is in both.
Section changes_section(const std::vector<Layer>& now, const std::vector<Layer>& before);

/// "NVIDIA H200: the middle cell reaches 0.85 of its floor (24 cells). ..." for each machine.
std::vector<std::string> headlines_of(const std::vector<Layer>& layers);

}  // namespace switchyard::cli::report
