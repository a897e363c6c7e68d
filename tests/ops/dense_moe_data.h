#pragma once

#include <cstdint>
#include <vector>

#include "base/random.h"
#include "switchyard/ops.h"

namespace switchyard::testing {

inline constexpr auto kDenseScales = ops::ScaleLayout::swizzled_128x4;

struct Quantised {
  Tensor codes;
  std::vector<std::uint8_t> scales;
};

inline Quantised quantised(const Tensor& x, float encode_scale) {
  const std::int64_t rows = x.shape()[0], cols = x.shape()[1];
  Quantised q{Tensor(DType::f4_e2m1, x.shape()),
              std::vector<std::uint8_t>(
                  static_cast<std::size_t>(ops::scale_bytes(kDenseScales, rows, cols / 16)))};
  ops::quantize_nvfp4(
      {x.view(), encode_scale, ScaleRecipe::fast, kDenseScales, q.codes.view(), q.scales});
  return q;
}

/// The numbers in [-5, 5) of the DenseGEMM tests (spec 10.1).
inline Tensor integers(Shape shape, std::uint64_t seed) {
  Tensor tensor(DType::f32, shape);
  const Random numbers(seed);
  for (std::int64_t i = 0; i < shape.elements(); ++i)
    tensor.as<float>()[i] =
        static_cast<float>(numbers.below(static_cast<std::uint64_t>(i), 10)) - 5;
  return tensor;
}

}  // namespace switchyard::testing
