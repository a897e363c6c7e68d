#pragma once

#include <cstdint>

#include "switchyard/weights.h"

/// Weights as numbers, by the formula at ExpertMatrix. The matrix must have passed check().
namespace switchyard::formats {

/// w[expert, row, col], every factor included. Exact: no format's product exceeds 53 bits.
double value(const ExpertMatrix& matrix, std::int64_t expert, std::int64_t row, std::int64_t col);

/// Row `row` without the global scale, `in` values; T is float or double. double is exact; float
/// is exact too unless the scale is f32, or bf16 or f16 over 8-bit and wider elements, when it is
/// rounded once.
template <class T>
void decode_row(const ExpertMatrix& matrix, std::int64_t expert, std::int64_t row, T* out);

/// The factor that decode_row() leaves out; 1 for formats without one.
float row_global(const ExpertMatrix& matrix, std::int64_t expert, std::int64_t row);

}  // namespace switchyard::formats
