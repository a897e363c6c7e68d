// y[r, n] = act(g, u)   with   g = x[r, :] . w[e, n, :] + b[e, n]
//                              u = x[r, :] . w[e, I + n, :] + b[e, I + n]
// and e = expert_of_row[r]; u is absent without a gate, act is the identity without an activation.
// f64 and plain loops; the weight row is the outer loop only so that it is decoded once.

#include <algorithm>
#include <vector>

#include "formats/decode.h"
#include "ops/grouped_gemm/activation.h"
#include "ops/grouped_gemm/problem.h"

namespace switchyard::grouped_gemm {
namespace {

/// product[r, n] = x[r, :] . w[expert, n, :] + bias[expert, n] for the rows of one expert.
void multiply(const ExpertMatrix& weights, std::int64_t expert, std::span<const double> x,
              const std::vector<std::size_t>& rows, std::vector<double>& product) {
  const auto in = static_cast<std::size_t>(weights.in());
  const auto out = static_cast<std::size_t>(weights.out());
  const float* bias = weights.bias ? weights.bias.as<float>() : nullptr;
  std::vector<double> w(in);
  for (std::size_t n = 0; n < out; ++n) {
    const auto row = static_cast<std::int64_t>(n);
    formats::decode_row(weights, expert, row, w.data());
    const double global = formats::row_global(weights, expert, row);
    for (const std::size_t r : rows) {
      double sum = 0;
      for (std::size_t k = 0; k < in; ++k) sum += x[r * in + k] * w[k];
      const double b = bias ? bias[static_cast<std::size_t>(expert) * out + n] : 0;
      product[r * out + n] = sum * global + b;
    }
  }
}

}  // namespace

void reference(const ExpertMatrix& weights, std::span<const double> x,
               std::span<const std::int32_t> expert_of_row, const Activation* activation,
               std::span<double> y) {
  const auto out = static_cast<std::size_t>(weights.out());
  std::vector<std::vector<std::size_t>> rows_of(static_cast<std::size_t>(weights.experts()));
  for (std::size_t r = 0; r < expert_of_row.size(); ++r)
    rows_of[static_cast<std::size_t>(expert_of_row[r])].push_back(r);
  std::vector<double> product(expert_of_row.size() * out);
  for (std::size_t e = 0; e < rows_of.size(); ++e)
    if (!rows_of[e].empty())
      multiply(weights, static_cast<std::int64_t>(e), x, rows_of[e], product);

  const bool gated = activation && activation->gated();
  const std::size_t width = gated ? out / 2 : out;
  for (std::size_t i = 0; i < expert_of_row.size() * width; ++i) {
    const std::size_t g = i / width * out + i % width;
    y[i] = activation ? activate(*activation, product[g], gated ? product[g + width] : 0.0)
                      : product[g];
  }
}

}  // namespace switchyard::grouped_gemm
