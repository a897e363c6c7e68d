#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "switchyard/config.h"
#include "switchyard/weights.h"

namespace switchyard::grouped_gemm {

/// One grouped GEMM, as the tests, the tuner's key, the log and the benchmark all spell it:
/// "grouped_gemm e256 r4096 n4096 k7168 nvfp4".
struct Problem {
  int experts = 0;      ///< E
  int rows = 0;         ///< R  expert rows over all groups
  int out = 0, in = 0;  ///< N, K  as in [R, K] x [E, N, K]^T -> [R, N]
  WeightFormat weights;

  friend bool operator==(const Problem&, const Problem&) = default;
};

std::string to_string(const Problem& problem);
/// parse(to_string(p)) == p; throws InvalidArgument, naming the word, the rule and the nearest
/// valid spelling.
Problem parse(std::string_view line);

/// The definition: y[r, n] = x[r, :] . w[e, n, :] + bias[e, n] with e = expert_of_row[r], and with
/// an activation y[r, i] = act(y[r, i], y[r, I + i]), I = N / 2 (gate first), or act(y[r, i]).
///
///   x  [R, K]      expert_of_row  [R]  in [0, E)      y  [R, N, or I behind a gate]
void reference(const ExpertMatrix& weights, std::span<const double> x,
               std::span<const std::int32_t> expert_of_row, const Activation* activation,
               std::span<double> y);

}  // namespace switchyard::grouped_gemm
