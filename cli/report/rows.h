#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "switchyard/problem.h"

namespace switchyard::cli::report {

/// One measurement of a layer (docs/results.md), checked.
struct Row {
  MoeProblem problem;
  std::string preset;   ///< "" if it is none, or another shape than the preset's
  std::string machine;  ///< "NVIDIA H200"; "AMD EPYC, 2 threads"
  std::string peer;     ///< "" for ours, else what ran: "torch._grouped_mm"
  std::string format, variant, commit, date;
  double median_us = 0, p10_us = 0, p90_us = 0, floor_us = 0, bytes = 0, flops = 0;
  double read_tbs = 0, mma_tflops = 0;  ///< the machine's ceilings

  double efficiency() const { return floor_us / median_us; }
};

struct Results {
  std::vector<Row> rows;
  std::map<std::string, int> others;  ///< rows of benchmarks that are no layer's, by their name
};

/// All rows, in order. Throws InvalidArgument, naming file, line, rule and way out, for the first
/// thing that is wrong.
Results read_results(const std::vector<std::filesystem::path>& files);

}  // namespace switchyard::cli::report
