#pragma once

#include <string>
#include <vector>

#include "switchyard/problem.h"

namespace switchyard::bench {

/// A layer, and the batches that it is measured with.
struct LayerCase {
  std::string preset;  ///< empty for a problem line
  MoeProblem problem;
  std::vector<int> tokens;
};

/// Published layers, their weights as `format`, tokens BF16.
std::vector<LayerCase> preset_cases(const std::vector<std::string>& presets,
                                    const WeightFormat& format, const std::vector<int>& tokens,
                                    const std::string& load);

/// The problem lines of a file; lines that differ in tokens alone are one layer. Empty lines and
/// what follows a # are left out.
std::vector<LayerCase> file_cases(const std::string& file);

/// Bytes of weights of the reached experts and of tokens in and out, and useful operations.
struct Work {
  double bytes, flops;
};
Work work(const MoeProblem& problem, double active_experts);

}  // namespace switchyard::bench
