// MXFP4 as NVFP4, with the same values or not at all.
#include <gtest/gtest.h>

#include <cstring>
#include <initializer_list>
#include <optional>
#include <random>

#include "switchyard/error.h"
#include "switchyard/weights.h"

namespace switchyard {
namespace {

/// [2, 4, 96] MXFP4 with random codes and scales of `exponents` each.
ExpertMatrix random_mxfp4(std::initializer_list<int> exponents, unsigned seed) {
  std::mt19937 random(seed);
  ExpertMatrix w;
  w.format = weight_format("mxfp4");
  w.elements = Tensor(DType::f4_e2m1, {2, 4, 96});
  w.scales = Tensor(DType::f8_e8m0, {2, 4, 3});
  for (std::int64_t i = 0; i < w.elements.bytes(); ++i)
    w.elements.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(random() | 1);  // no zero blocks
  std::size_t next = 0;
  for (std::int64_t i = 0; i < w.scales.bytes(); ++i)
    w.scales.as<std::uint8_t>()[i] =
        static_cast<std::uint8_t>(127 + exponents.begin()[next++ % exponents.size()]);
  return w;
}

TEST(Nvfp4WithoutLoss, KeepsEveryValueOverAllPowersThatE4m3Has) {
  using Exponents = std::initializer_list<int>;
  for (const Exponents exponents :
       {Exponents{127, 110, 119, 113, 112}, Exponents{8, -9, -6, -7, -8}, Exponents{0, -17},
        Exponents{-110, -127, -118}, Exponents{-120, -127}}) {  // the least global scale decides
    SCOPED_TRACE(*exponents.begin());
    const ExpertMatrix mxfp4 = random_mxfp4(exponents, 3);
    const std::optional<ExpertMatrix> nvfp4 = nvfp4_without_loss(mxfp4);
    ASSERT_TRUE(nvfp4);
    check(*nvfp4, "nvfp4");
    EXPECT_EQ(nvfp4->format, weight_format("nvfp4"));
    const Tensor want = dequantize(mxfp4, DType::f64), got = dequantize(*nvfp4, DType::f64);
    EXPECT_EQ(std::memcmp(want.data(), got.data(), static_cast<std::size_t>(want.bytes())), 0);
  }
}

TEST(Nvfp4WithoutLoss, SaysNothingWhereItWouldLose) {
  EXPECT_FALSE(nvfp4_without_loss(random_mxfp4({0, -18}, 4)));
  EXPECT_FALSE(nvfp4_without_loss(random_mxfp4({0, 128}, 4)));  // NaN
  EXPECT_TRUE(nvfp4_without_loss(random_mxfp4({0, -17}, 4)));
  ExpertMatrix bf16;
  bf16.elements = Tensor(DType::bf16, {1, 4, 32});
  EXPECT_THROW(nvfp4_without_loss(bf16), InvalidArgument);
}

TEST(Nvfp4WithoutLoss, ScalesOfZerosDoNotCount) {
  ExpertMatrix w = random_mxfp4({0}, 6);
  w.scales.as<std::uint8_t>()[1] = 1;  // columns 32 to 63 of row 0
  EXPECT_FALSE(nvfp4_without_loss(w));
  std::memset(w.elements.as<std::uint8_t>() + 16, 0x80, 16);  // zeros of both signs
  const std::optional<ExpertMatrix> nvfp4 = nvfp4_without_loss(w);
  ASSERT_TRUE(nvfp4);
  const Tensor want = dequantize(w, DType::f64), got = dequantize(*nvfp4, DType::f64);
  EXPECT_EQ(std::memcmp(want.data(), got.data(), static_cast<std::size_t>(want.bytes())), 0);
}

}  // namespace
}  // namespace switchyard
