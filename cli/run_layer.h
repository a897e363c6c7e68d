#pragma once

#include <cstdint>
#include <string>

#include "cli/run_report.h"

namespace switchyard::cli {

struct RunOptions {
  std::string directory, input, act, tp = "0/1", ep = "0/1", device = "cpu";
  int layer = 0, tokens = 16, threads = 0;
  std::uint64_t seed = 7;
  bool check = false;
};

/// Loads one part of one layer, makes or reads the tokens and runs it.
RunReport run_layer(const RunOptions& options);

}  // namespace switchyard::cli
