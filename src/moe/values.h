#pragma once

#include <cstdint>
#include <vector>

#include "switchyard/tensor.h"

/// Host arrays of any type as f64, for the definition.
namespace switchyard::moe {

using Values = std::vector<double>;

/// `count` elements from `first` on.
Values load(ConstTensorView view, std::int64_t first, std::int64_t count);
Values load(const Tensor& tensor);

double dot(const double* a, const double* b, std::size_t n);

/// x [rows, in] . matrix [out, in]^T -> [rows, out]
Values project(const Values& x, const Tensor& matrix);

}  // namespace switchyard::moe
