#include "moe/values.h"

#include <algorithm>

#include "formats/convert.h"

namespace switchyard::moe {

Values load(ConstTensorView view, std::int64_t first, std::int64_t count) {
  Values values(static_cast<std::size_t>(count));
  formats::load_run(view.dtype, view.data, first, count, values.data());
  return values;
}

Values load(const Tensor& tensor) {
  return load(tensor.view(), 0, tensor.shape().elements());
}

double dot(const double* a, const double* b, std::size_t n) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

Values project(const Values& x, const Tensor& matrix) {
  const auto out = matrix.shape()[0], in = matrix.shape()[1];
  const auto width = static_cast<std::size_t>(in);
  const std::size_t rows = x.size() / std::max<std::size_t>(width, 1);
  Values y(rows * static_cast<std::size_t>(out));
  for (std::int64_t n = 0; n < out; ++n) {
    const Values w = load(matrix.view(), n * in, in);
    for (std::size_t r = 0; r < rows; ++r)
      y[r * static_cast<std::size_t>(out) + static_cast<std::size_t>(n)] =
          dot(&x[r * width], w.data(), width);
  }
  return y;
}

}  // namespace switchyard::moe
