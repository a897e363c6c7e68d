#include "cli/bench/cases.h"

#include <fmt/format.h>

#include <fstream>
#include <utility>

#include "switchyard/error.h"
#include "switchyard/kernels.h"

namespace switchyard::cli::bench {

std::vector<LayerCase> preset_cases(const std::vector<std::string>& presets,
                                    const std::string& format, const std::vector<int>& tokens,
                                    const std::string& load) {
  std::vector<LayerCase> cases;
  for (const std::string& word : presets)
    for (const std::string& name : word == "all" ? preset_names() : std::vector{word}) {
      MoeProblem problem = preset(name, 1);
      if (!format.empty()) problem.format = weight_format(format);
      problem.config.act = ActivationFormat::bf16;
      problem.load = load;
      if (word != "all" || !kernels::declines(problem, "sm_90a"))
        cases.push_back({name, std::move(problem), tokens});
    }
  return cases;
}

std::vector<LayerCase> line_cases(const std::vector<std::string>& lines,
                                  const std::vector<int>& tokens) {
  std::vector<LayerCase> cases;
  for (const std::string& line : lines) {
    MoeProblem problem = parse_problem(line);
    const int own = std::exchange(problem.tokens, 1);
    if (cases.empty() || cases.back().problem != problem) cases.push_back({"", problem, tokens});
    if (tokens.empty()) cases.back().tokens.push_back(own);
  }
  return cases;
}

std::vector<LayerCase> file_cases(const std::string& file) {
  std::ifstream text(file);
  if (!text) throw InvalidArgument(fmt::format("[bench] --cases: {} cannot be read.", file));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) {
    line.erase(std::min(line.find('#'), line.size()));
    if (line.find_first_not_of(' ') != std::string::npos) lines.push_back(line);
  }
  return line_cases(lines, {});
}

namespace {

/// Bytes of a weight, its share of a scale included; whole matrices have the same scales.
double weight_size(const WeightFormat& f) {
  const double scale = f.scaled ? bits(f.scale) / (1.0 * f.scale_rows * f.scale_cols) : 0;
  return (bits(f.element) + scale) / 8;
}

}  // namespace

Work work(const MoeProblem& p, double active_experts) {
  const double matrices = p.config.activation.gated() ? 3 : 2;
  const double expert = matrices * p.config.hidden * p.config.intermediate;
  return {
      .bytes = active_experts * expert * weight_size(p.format) + 4.0 * p.tokens * p.config.hidden,
      .flops = 2.0 * p.tokens * p.config.top_k * expert};
}

}  // namespace switchyard::cli::bench
