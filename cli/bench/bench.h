#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/bench/cases.h"

namespace switchyard::cli::bench {

struct Options {
  std::string peers;  ///< a file of rows (bench/peers.py) to print beside ours; or empty
  std::string out,
      topic = "layer";  ///< rows are appended to <date>-<machine>-<topic>.jsonl in that folder
  std::string commit;
  int samples = 30;
  bool all_variants = false, model = false, check = true, ops = false, json = false;
};

/// Measures ceilings, then each case, and prints a table of them unless Options::json; the rows
/// (docs/results.md).
nlohmann::json measure(const std::vector<LayerCase>& cases, const Options& options);

}  // namespace switchyard::cli::bench
