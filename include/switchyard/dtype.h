#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace switchyard {

/// Element types. Four-bit types are packed two to a byte, the even column in the low nibble.
enum class DType : std::uint8_t {
  f64,
  f32,
  f16,
  bf16,
  f8_e4m3,  ///< OCP E4M3FN: no infinity, 448 is the largest value
  f8_e5m2,
  f8_e8m0,  ///< 2^(code - 127); 255 is NaN
  f4_e2m1,  ///< packed
  u4,       ///< packed, 0..15; INT4 weights carry their zero point beside it (8 if there is none)
  i64,
  i32,
  i16,
  i8,
  u8,
  boolean,
};

/// Width of one element: 4 for the packed types, else a multiple of 8.
int bits(DType type) noexcept;

/// "bf16", "f8_e4m3", ...
std::string_view name(DType type) noexcept;

/// The type of that name; empty if there is none.
std::optional<DType> dtype_named(std::string_view name) noexcept;

}  // namespace switchyard
