#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "switchyard/dtype.h"

namespace switchyard::checkpoint {

/// Element types of the safetensors format. The last ones are sized but have no DType: such
/// tensors may sit in a file, and are refused only where their values are wanted.
enum class StoredType : std::uint8_t {
  F64,
  F32,
  F16,
  BF16,
  F8_E4M3,
  F8_E5M2,
  F8_E8M0,
  F4,
  I64,
  I32,
  I16,
  I8,
  U8,
  BOOL,  // clang-format off
  U16, U32, U64, C64, F6_E2M3, F6_E3M2,  // clang-format on
};

std::string_view name(StoredType type) noexcept;
int bits(StoredType type) noexcept;
std::optional<StoredType> stored_type_named(std::string_view name) noexcept;
std::optional<DType> dtype_of(StoredType type) noexcept;
StoredType stored_type_of(DType type) noexcept;  ///< u4 is stored as U8

}  // namespace switchyard::checkpoint
