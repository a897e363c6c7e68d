#include "formats/convert.h"

#include <array>

#include "base/check.h"
#include "formats/bf16.cuh"
#include "formats/e8m0.cuh"
#include "formats/fp16.cuh"
#include "formats/fp4.cuh"
#include "formats/fp8.cuh"

namespace switchyard::formats {
namespace {

template <float (*kDecode)(uint8)>
constexpr auto byte_table() {
  std::array<float, 256> table{};
  for (unsigned code = 0; code < 256; ++code) table[code] = kDecode(static_cast<uint8>(code));
  return table;
}

struct Pair {
  float low, high;
};

template <float (*kDecode)(uint8)>
constexpr auto pair_table() {
  std::array<Pair, 256> table{};
  for (unsigned byte = 0; byte < 256; ++byte)
    table[byte] = {kDecode(static_cast<uint8>(byte & 15U)), kDecode(static_cast<uint8>(byte >> 4))};
  return table;
}

constexpr float decode_u4(uint8 code) {
  return static_cast<float>(code);
}

constexpr auto kE4m3Values = byte_table<decode_e4m3>();
constexpr auto kE5m2Values = byte_table<decode_e5m2>();
constexpr auto kE8m0Values = byte_table<decode_e8m0>();
constexpr auto kE2m1Pairs = pair_table<decode_e2m1>();
constexpr auto kU4Pairs = pair_table<decode_u4>();

/// Calls `visit` with the stored type and the function from it to a number.
template <class Visit>
void with_decoder(DType type, Visit visit) {
  const auto identity = [](auto value) { return value; };
  switch (type) {
    case DType::f64:
      return visit(double{}, identity);
    case DType::f32:
      return visit(float{}, identity);
    case DType::f16:
      return visit(uint16{}, [](uint16 code) { return decode_fp16(code); });
    case DType::bf16:
      return visit(uint16{}, [](uint16 code) { return decode_bf16(code); });
    case DType::f8_e4m3:
      return visit(uint8{}, [](uint8 code) { return kE4m3Values[code]; });
    case DType::f8_e5m2:
      return visit(uint8{}, [](uint8 code) { return kE5m2Values[code]; });
    case DType::f8_e8m0:
      return visit(uint8{}, [](uint8 code) { return kE8m0Values[code]; });
    case DType::i64:
      return visit(std::int64_t{}, identity);
    case DType::i32:
      return visit(std::int32_t{}, identity);
    case DType::i16:
      return visit(std::int16_t{}, identity);
    case DType::i8:
      return visit(std::int8_t{}, identity);
    case DType::u8:
    case DType::boolean:
      return visit(std::uint8_t{}, identity);
    case DType::f4_e2m1:
    case DType::u4:
      break;
  }
  SWITCHYARD_ASSERT(false && "a packed type has no elements of its own");
}

template <class Visit>
void with_encoder(DType type, Visit visit) {
  switch (type) {
    case DType::f64:
      return visit(double{}, [](auto value) { return static_cast<double>(value); });
    case DType::f32:
      return visit(float{}, [](auto value) { return static_cast<float>(value); });
    case DType::f16:
      return visit(uint16{}, [](auto value) { return encode_fp16(value); });
    case DType::bf16:
      return visit(uint16{}, [](auto value) { return encode_bf16(value); });
    case DType::f8_e4m3:
      return visit(uint8{}, [](auto value) { return encode_e4m3(value); });
    case DType::f8_e5m2:
      return visit(uint8{}, [](auto value) { return encode_e5m2(value); });
    default:
      break;
  }
  SWITCHYARD_ASSERT(false && "only byte-sized and wider floats are stored one by one");
}

template <class T>
void load_pairs(const std::array<Pair, 256>& table, const void* data, std::int64_t first,
                std::int64_t count, T* out) {
  SWITCHYARD_ASSERT(first % 2 == 0 && count % 2 == 0);
  const uint8* bytes = static_cast<const uint8*>(data) + first / 2;
  for (std::int64_t i = 0; i < count / 2; ++i) {
    const Pair& pair = table[bytes[i]];
    out[2 * i] = static_cast<T>(pair.low);
    out[2 * i + 1] = static_cast<T>(pair.high);
  }
}

}  // namespace

double load(DType type, const void* data, std::int64_t index) {
  if (type == DType::f4_e2m1)
    return static_cast<double>(decode_e2m1(nibble(static_cast<const uint8*>(data), index)));
  if (type == DType::u4) return static_cast<double>(nibble(static_cast<const uint8*>(data), index));
  double value = 0;
  load_run(type, data, index, 1, &value);
  return value;
}

void store(DType type, void* data, std::int64_t index, double value) {
  store_run(type, data, index, 1, &value);
}

template <class T>
void load_run(DType type, const void* data, std::int64_t first, std::int64_t count, T* out) {
  if (type == DType::f4_e2m1) return load_pairs(kE2m1Pairs, data, first, count, out);
  if (type == DType::u4) return load_pairs(kU4Pairs, data, first, count, out);
  with_decoder(type, [&](auto stored, auto decode) {
    const auto* codes = static_cast<const decltype(stored)*>(data) + first;
    for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<T>(decode(codes[i]));
  });
}

template <class T>
void store_run(DType type, void* data, std::int64_t first, std::int64_t count, const T* in) {
  with_encoder(type, [&](auto stored, auto encode) {
    auto* codes = static_cast<decltype(stored)*>(data) + first;
    for (std::int64_t i = 0; i < count; ++i) codes[i] = encode(in[i]);
  });
}

template void load_run(DType, const void*, std::int64_t, std::int64_t, float*);
template void load_run(DType, const void*, std::int64_t, std::int64_t, double*);
template void store_run(DType, void*, std::int64_t, std::int64_t, const float*);
template void store_run(DType, void*, std::int64_t, std::int64_t, const double*);

bool is_plain_float(DType type) noexcept {
  return type == DType::f32 || type == DType::bf16 || type == DType::f16;
}

}  // namespace switchyard::formats
