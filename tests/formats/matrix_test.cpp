// ExpertMatrix: what check() refuses, and decoding of what checkpoints hold but quantize() never
// makes: act order, zero points by hand, unusual scale extents.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "formats/convert.h"
#include "formats/decode.h"
#include "switchyard/error.h"
#include "switchyard/weights.h"

namespace switchyard {
namespace {

ExpertMatrix zero_matrix(const char* format, std::int64_t in = 64) {
  return quantize(Tensor::zeros(DType::f32, {2, 4, in}).view(), weight_format(format));
}

void expect_refused(const ExpertMatrix& matrix, const std::string& text) {
  try {
    check(matrix, "gate_up");
    ADD_FAILURE() << "accepted; expected: " << text;
  } catch (const InvalidArgument& error) {
    EXPECT_EQ(error.what(), text);
  }
}

TEST(CheckMatrix, NamesTheTensorThatIsWrong) {
  ExpertMatrix matrix;
  expect_refused(matrix, "[gate_up] elements: expected [E, out, in], got none.");
  matrix = zero_matrix("nvfp4");
  matrix.elements = Tensor::zeros(DType::u8, {2, 4, 32});
  expect_refused(matrix,
                 "[gate_up] elements: expected f4_e2m1 [E, out, in], got u8 [2, 4, 32]. Name the "
                 "format that they are in, or quantize them.");
  matrix = zero_matrix("nvfp4");
  matrix.scales = Tensor::zeros(DType::f8_e4m3, {2, 4, 2});
  expect_refused(matrix, "[gate_up] scales: expected f8_e4m3 [2, 4, 4], got f8_e4m3 [2, 4, 2].");
  matrix.scales = {};
  expect_refused(matrix, "[gate_up] scales: expected f8_e4m3 [2, 4, 4], got none.");
  matrix = zero_matrix("nvfp4");
  matrix.global_scale = Tensor::zeros(DType::f32, {2, 3});
  expect_refused(matrix,
                 "[gate_up] global_scale: expected f32 [2, parts] with parts dividing 4, got f32 "
                 "[2, 3].");
  matrix = zero_matrix("bf16");
  matrix.scales = Tensor::zeros(DType::f32, {2, 4, 1});
  expect_refused(matrix, "[gate_up] scales: expected none for format bf16, got f32 [2, 4, 1].");
  matrix = zero_matrix("int4_g32_zp");
  matrix.zeros = Tensor::zeros(DType::u8, {2, 4, 1});
  expect_refused(matrix, "[gate_up] zeros: expected u8 [2, 4, 2], got u8 [2, 4, 1].");
  matrix = zero_matrix("bf16");
  matrix.format.element = DType::f8_e5m2;
  expect_refused(matrix,
                 "[gate_up] format.element: expected f32, bf16, f16, f8_e4m3, f4_e2m1 or u4, got "
                 "f8_e5m2.");
}

TEST(CheckMatrix, OptionalTensors) {
  ExpertMatrix matrix = zero_matrix("bf16");
  matrix.bias = Tensor::zeros(DType::f32, {2, 4});
  matrix.input_factor = Tensor::zeros(DType::f32, {1, 64});
  matrix.input_scale = Tensor::zeros(DType::f32, {2});
  EXPECT_NO_THROW(check(matrix, "gate_up"));
  matrix.input_scale = Tensor::zeros(DType::f32, {3});
  expect_refused(matrix, "[gate_up] input_scale: expected f32 [2] or [1], got f32 [3].");
  matrix.input_factor = Tensor::zeros(DType::bf16, {2, 64});
  expect_refused(matrix,
                 "[gate_up] input_factor: expected f32 [2, 64] or [1, 64], got bf16 [2, 64].");
  matrix.bias = Tensor::zeros(DType::f32, {4});
  expect_refused(matrix, "[gate_up] bias: expected f32 [2, 4], got f32 [4].");
}

TEST(CheckMatrix, GroupIdsStayInsideTheScales) {
  ExpertMatrix matrix = zero_matrix("int4_g32");
  matrix.group_of_column = Tensor::zeros(DType::i32, {2, 64});
  EXPECT_NO_THROW(check(matrix, "gate_up"));
  for (const std::int32_t bad : {-1, 2}) {
    matrix.group_of_column.as<std::int32_t>()[64 + 5] = bad;
    expect_refused(matrix, "[gate_up] group_of_column: expected ids in [0, 2), got " +
                               std::to_string(bad) + " at expert 1, column 5.");
  }
}

TEST(DecodeRow, ActOrderAndZeroPointsByHand) {
  ExpertMatrix matrix = zero_matrix("int4_g32_zp");
  std::uint8_t* codes = matrix.elements.as<std::uint8_t>() + (1 * 4 + 2) * 32;  // expert 1, row 2
  codes[0] = 0xf3;
  codes[1] = 0x08;
  for (std::int64_t g = 0; g < 2; ++g) {
    formats::store(DType::bf16, matrix.scales.data(), (1 * 4 + 2) * 2 + g, g == 0 ? 0.5 : 4);
    matrix.zeros.as<std::uint8_t>()[(1 * 4 + 2) * 2 + g] = g == 0 ? 5 : 10;
  }
  std::vector<float> row(64);
  formats::decode_row(matrix, 1, 2, row.data());
  EXPECT_EQ(row[0], (3 - 5) * 0.5F);
  EXPECT_EQ(row[1], (15 - 5) * 0.5F);
  EXPECT_EQ(row[2], (8 - 5) * 0.5F);
  matrix.group_of_column = Tensor::zeros(DType::i32, {2, 64});
  matrix.group_of_column.as<std::int32_t>()[64 + 1] = 1;
  check(matrix, "matrix");
  formats::decode_row(matrix, 1, 2, row.data());
  EXPECT_EQ(row[0], (3 - 5) * 0.5F);
  EXPECT_EQ(row[1], (15 - 10) * 4.0F) << "column 1 belongs to group 1";
  EXPECT_EQ(formats::value(matrix, 1, 2, 1), 20);
}

/// Random bytes in every tensor, any scale type and extent: rows, exact rows and single values
/// agree.
RC_GTEST_PROP(DecodeRow, AgreesWithTheDefinitionForAnyFormat, ()) {
  const auto out = *rc::gen::inRange<std::int64_t>(1, 7);
  const auto in = 2 * *rc::gen::inRange<std::int64_t>(1, 400);
  ExpertMatrix matrix;
  matrix.format.element = *rc::gen::element(DType::f8_e4m3, DType::f4_e2m1, DType::u4);
  matrix.format.scaled = true;
  matrix.format.scale = *rc::gen::element(DType::f32, DType::bf16, DType::f16, DType::f8_e4m3);
  matrix.format.scale_rows = *rc::gen::inRange(0, 5);
  matrix.format.scale_cols = *rc::gen::inRange(0, 9);
  const ScaleBlock block = scale_block(matrix.format, out, in);
  const std::int64_t groups = (in + block.cols - 1) / block.cols;
  matrix.elements = Tensor(matrix.format.element, {1, out, in});
  matrix.scales = Tensor(matrix.format.scale, {1, (out + block.rows - 1) / block.rows, groups});
  auto seed = *rc::gen::arbitrary<std::uint32_t>();
  const auto next = [&seed] { return seed = seed * 1664525 + 1013904223; };
  for (std::int64_t i = 0; i < matrix.elements.bytes(); ++i)
    matrix.elements.as<std::uint8_t>()[i] = static_cast<std::uint8_t>((next() >> 24) & 0x77);
  for (std::int64_t i = 0; i < matrix.scales.shape().elements(); ++i)
    formats::store(matrix.format.scale, matrix.scales.data(), i, (next() >> 16) / 4096.0);
  if (*rc::gen::arbitrary<bool>()) {
    matrix.group_of_column = Tensor(DType::i32, {1, in});
    for (std::int64_t c = 0; c < in; ++c)
      matrix.group_of_column.as<std::int32_t>()[c] =
          static_cast<std::int32_t>((next() >> 8) % static_cast<std::uint64_t>(groups));
  }
  check(matrix, "matrix");
  std::vector<double> exact(static_cast<std::size_t>(in));
  std::vector<float> single(static_cast<std::size_t>(in));
  for (std::int64_t r = 0; r < out; ++r) {
    formats::decode_row(matrix, 0, r, exact.data());
    formats::decode_row(matrix, 0, r, single.data());
    for (std::int64_t c = 0; c < in; ++c) {
      const auto i = static_cast<std::size_t>(c);
      RC_ASSERT(exact[i] == formats::value(matrix, 0, r, c));
      RC_ASSERT(single[i] == static_cast<float>(exact[i]));
    }
  }
}

}  // namespace
}  // namespace switchyard
