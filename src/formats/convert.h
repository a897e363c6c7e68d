#pragma once

#include <cstdint>

#include "switchyard/dtype.h"

/// Elements of host arrays as numbers. `index` and `first` count elements, also of packed types.
namespace switchyard::formats {

/// Element `index`, exact for every type (u4 gives 0..15).
double load(DType type, const void* data, std::int64_t index);

/// Writes `value` rounded to nearest even (f64 f32 f16 bf16 f8_e4m3 f8_e5m2).
void store(DType type, void* data, std::int64_t index, double value);

/// Whole runs of elements; T is float or double. Packed types need an even `first` and `count`.
/// Loading f64 or i64 as float rounds; everything else is exact.
template <class T>
void load_run(DType type, const void* data, std::int64_t first, std::int64_t count, T* out);

/// T is float or double; the types of store().
template <class T>
void store_run(DType type, void* data, std::int64_t first, std::int64_t count, const T* in);

/// Whether `type` is one of f32, bf16, f16: what activations and unquantised weights come in.
bool is_plain_float(DType type) noexcept;

}  // namespace switchyard::formats
