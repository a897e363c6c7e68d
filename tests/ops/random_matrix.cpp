#include "tests/ops/random_matrix.h"

#include <bit>
#include <cstring>

#include "base/math.h"

namespace switchyard::testing {
namespace {

std::uint32_t bits_of(float value) {
  return std::bit_cast<std::uint32_t>(value);
}

void fill_codes(Tensor& tensor, std::mt19937_64& random) {
  std::uniform_real_distribution<float> uniform(-1, 1);
  const std::int64_t count = tensor.bytes();
  std::uint8_t* bytes = tensor.as<std::uint8_t>();
  switch (tensor.dtype()) {
    case DType::f32:
      for (std::int64_t i = 0; i < count / 4; ++i) tensor.as<float>()[i] = uniform(random);
      return;
    case DType::bf16:
      for (std::int64_t i = 0; i < count / 2; ++i) {
        tensor.as<std::uint16_t>()[i] = static_cast<std::uint16_t>(bits_of(uniform(random)) >> 16);
      }
      return;
    case DType::f16:
      for (std::int64_t i = 0; i < count / 2; ++i) {
        // Exponents 0 (subnormal) to 15 (below 2).
        tensor.as<std::uint16_t>()[i] = static_cast<std::uint16_t>(random() & 0xbfff);
      }
      return;
    default:
      for (std::int64_t i = 0; i < count; ++i) {
        bytes[i] = static_cast<std::uint8_t>(random());
        if (tensor.dtype() == DType::f8_e4m3 && (bytes[i] & 0x7f) == 0x7f) bytes[i] = 0x38;
      }
  }
}

void fill_scales(Tensor& tensor, std::mt19937_64& random) {
  std::uniform_real_distribution<float> uniform(0.25F, 2);
  for (std::int64_t i = 0; i < tensor.shape().elements(); ++i) {
    const float value = uniform(random);
    switch (tensor.dtype()) {
      case DType::f32:
        tensor.as<float>()[i] = value;
        break;
      case DType::bf16:
        tensor.as<std::uint16_t>()[i] = static_cast<std::uint16_t>(bits_of(value) >> 16);
        break;
      case DType::f16:
        tensor.as<std::uint16_t>()[i] = static_cast<std::uint16_t>(0x3400 + random() % 0x0c00);
        break;
      case DType::f8_e8m0:
        tensor.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(124 + random() % 6);
        break;
      default:  // e4m3, subnormal ones too
        tensor.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(random() % 0x48);
    }
  }
}

}  // namespace

ExpertMatrix random_matrix(std::string_view format, std::int64_t experts, std::int64_t out,
                           std::int64_t in, std::mt19937_64& random, int parts,
                           ActOrder act_order) {
  ExpertMatrix m;
  m.format = weight_format(format);
  m.elements = Tensor(m.format.element, {experts, out, in});
  fill_codes(m.elements, random);
  const ScaleBlock block = scale_block(m.format, out, in);
  const std::int64_t groups = ceil_div(in, block.cols);
  if (m.format.scaled) {
    m.scales = Tensor(m.format.scale, {experts, ceil_div(out, block.rows), groups});
    fill_scales(m.scales, random);
  }
  if (m.format.zero_points) {
    m.zeros = Tensor(DType::u8, {experts, out, groups});
    for (std::int64_t i = 0; i < m.zeros.bytes(); ++i) {
      m.zeros.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(random() % 16);
    }
  }
  if (m.format.global_scale) {
    m.global_scale = Tensor(DType::f32, {experts, parts});
    fill_scales(m.global_scale, random);
  }
  if (act_order == ActOrder::yes) {
    m.group_of_column = Tensor(DType::i32, {experts, in});
    for (std::int64_t i = 0; i < experts * in; ++i) {
      m.group_of_column.as<std::int32_t>()[i] =
          static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(groups));
    }
  }
  return m;
}

}  // namespace switchyard::testing
