#include "checkpoint/stored_type.h"

namespace switchyard::checkpoint {
namespace {

struct Row {
  StoredType type;
  std::string_view name;
  int bits;
  std::optional<DType> dtype;
};

constexpr Row kTypes[] = {
    {StoredType::F64, "F64", 64, DType::f64},
    {StoredType::F32, "F32", 32, DType::f32},
    {StoredType::F16, "F16", 16, DType::f16},
    {StoredType::BF16, "BF16", 16, DType::bf16},
    {StoredType::F8_E4M3, "F8_E4M3", 8, DType::f8_e4m3},
    {StoredType::F8_E5M2, "F8_E5M2", 8, DType::f8_e5m2},
    {StoredType::F8_E8M0, "F8_E8M0", 8, DType::f8_e8m0},
    {StoredType::F4, "F4", 4, DType::f4_e2m1},
    {StoredType::I64, "I64", 64, DType::i64},
    {StoredType::I32, "I32", 32, DType::i32},
    {StoredType::I16, "I16", 16, DType::i16},
    {StoredType::I8, "I8", 8, DType::i8},
    {StoredType::U8, "U8", 8, DType::u8},
    {StoredType::BOOL, "BOOL", 8, DType::boolean},
    {StoredType::U16, "U16", 16, std::nullopt},
    {StoredType::U32, "U32", 32, std::nullopt},
    {StoredType::U64, "U64", 64, std::nullopt},
    {StoredType::C64, "C64", 64, std::nullopt},
    {StoredType::F6_E2M3, "F6_E2M3", 6, std::nullopt},
    {StoredType::F6_E3M2, "F6_E3M2", 6, std::nullopt},
};

const Row& row(StoredType type) {
  return kTypes[static_cast<std::size_t>(type)];
}

}  // namespace

std::string_view name(StoredType type) noexcept {
  return row(type).name;
}

int bits(StoredType type) noexcept {
  return row(type).bits;
}

std::optional<StoredType> stored_type_named(std::string_view name) noexcept {
  for (const Row& candidate : kTypes)
    if (candidate.name == name) return candidate.type;
  return std::nullopt;
}

std::optional<DType> dtype_of(StoredType type) noexcept {
  return row(type).dtype;
}

StoredType stored_type_of(DType type) noexcept {
  for (const Row& candidate : kTypes)
    if (candidate.dtype == type) return candidate.type;
  return StoredType::U8;
}

}  // namespace switchyard::checkpoint
