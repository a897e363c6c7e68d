// f64 and plain loops over all experts: this file is what the kernels are tested against.

#include <vector>

#include "base/math.h"
#include "device/activation.cuh"
#include "formats/decode.h"
#include "ops/dense_moe/problem.h"

namespace switchyard::dense_moe {
namespace {

std::vector<double> row_of(const ExpertMatrix& weights, std::size_t expert, std::size_t row) {
  std::vector<double> w(static_cast<std::size_t>(weights.in()));
  formats::decode_row(weights, static_cast<std::int64_t>(expert), static_cast<std::int64_t>(row),
                      w.data());
  return w;
}

double dot(const double* x, const std::vector<double>& w) {
  double sum = 0;
  for (std::size_t k = 0; k < w.size(); ++k) sum += x[k] * w[k];
  return sum;
}

}  // namespace

void fc1_reference(const ExpertMatrix& weights, std::span<const double> x,
                   std::span<const float> alpha, std::span<const float> post, std::span<double> y) {
  const auto experts = static_cast<std::size_t>(weights.experts());
  const auto hidden = static_cast<std::size_t>(weights.in());
  const auto intermediate = static_cast<std::size_t>(weights.out() / 2);
  const std::size_t tokens = x.size() / hidden;
  for (std::size_t e = 0; e < experts; ++e)
    for (std::size_t j = 0; j < intermediate; ++j) {
      const std::vector<double> gate = row_of(weights, e, j);
      const std::vector<double> up = row_of(weights, e, intermediate + j);
      for (std::size_t t = 0; t < tokens; ++t) {
        const double g = alpha[e] * dot(&x[t * hidden], gate);
        const double u = alpha[e] * dot(&x[t * hidden], up);
        const double scale = post.empty() ? 1 : post[t * experts + e];
        y[(t * experts + e) * intermediate + j] = device::silu<StdMath>(g) * u * scale;
      }
    }
}

void fc2_reference(const ExpertMatrix& weights, std::span<const double> x,
                   std::span<const float> alpha, std::span<double> y) {
  const auto experts = static_cast<std::size_t>(weights.experts());
  const auto hidden = static_cast<std::size_t>(weights.out());
  const auto intermediate = static_cast<std::size_t>(weights.in());
  const std::size_t tokens = alpha.size() / experts;
  for (double& value : y) value = 0;
  for (std::size_t e = 0; e < experts; ++e)
    for (std::size_t h = 0; h < hidden; ++h) {
      const std::vector<double> w = row_of(weights, e, h);
      for (std::size_t t = 0; t < tokens; ++t)
        y[t * hidden + h] += alpha[t * experts + e] * dot(&x[(t * experts + e) * intermediate], w);
    }
}

}  // namespace switchyard::dense_moe
