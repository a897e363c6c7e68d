#pragma once

#include <string>
#include <vector>

#include "switchyard/problem.h"

namespace switchyard::cli::bench {

/// A layer, and the batches that it is measured with.
struct LayerCase {
  std::string preset;  ///< empty for a problem line
  MoeProblem problem;
  std::vector<int> tokens;
};

/// Published layers, or "all" that a GPU serves; tokens BF16, weights as `format` or, if it is
/// empty, as they are published.
std::vector<LayerCase> preset_cases(const std::vector<std::string>& presets,
                                    const std::string& format, const std::vector<int>& tokens,
                                    const std::string& load);

/// Problem lines, at `tokens` instead of their own unless it is empty; lines that differ in tokens
/// alone are one layer.
std::vector<LayerCase> line_cases(const std::vector<std::string>& lines,
                                  const std::vector<int>& tokens);

/// The problem lines of a file. Empty lines and what follows a # are left out.
std::vector<LayerCase> file_cases(const std::string& file);

/// Bytes of weights of the reached experts and of tokens in and out, and useful operations.
struct Work {
  double bytes, flops;
};
Work work(const MoeProblem& problem, double active_experts);

}  // namespace switchyard::cli::bench
