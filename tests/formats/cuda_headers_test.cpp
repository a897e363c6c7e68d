// Agreement with the host side of CUDA's conversion headers: every half, a million random floats.
// Built where the headers are found; tests/formats/no_cuda_headers_test.cpp says so elsewhere.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp4.h>
#include <cuda_fp8.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "formats/bf16.cuh"
#include "formats/e8m0.cuh"
#include "formats/fp16.cuh"
#include "formats/fp4.cuh"
#include "formats/fp8.cuh"

namespace switchyard::formats {
namespace {

/// All halves as floats, a million floats of any bits, and a million that most formats can hold.
const std::vector<float>& samples() {
  static const std::vector<float> kSamples = [] {
    constexpr unsigned kSeed = 11;
    std::vector<float> values;
    for (unsigned code = 0; code < 65536; ++code)
      values.push_back(decode_fp16(static_cast<uint16>(code)));
    std::mt19937 random(kSeed);
    for (int i = 0; i < 1'000'000; ++i)
      values.push_back(std::bit_cast<float>(static_cast<uint32>(random())));
    std::uniform_real_distribution<float> exponent(-20, 20);
    std::normal_distribution<float> normal;
    for (int i = 0; i < 1'000'000; ++i)
      values.push_back(normal(random) * std::exp2(exponent(random)));
    return values;
  }();
  return kSamples;
}

TEST(CudaHeaders, Fp16) {
  for (const float x : samples()) {
    const auto theirs = static_cast<__half_raw>(__float2half_rn(x)).x;
    ASSERT_EQ(encode_fp16(x), theirs) << x;
    ASSERT_EQ(encode_fp16(static_cast<double>(x)), theirs) << x;
  }
  for (unsigned code = 0; code < 65536; ++code) {
    __half_raw raw;
    raw.x = static_cast<uint16>(code);
    const float theirs = __half2float(__half(raw)), ours = decode_fp16(raw.x);
    ASSERT_TRUE(theirs == ours || (std::isnan(theirs) && std::isnan(ours))) << code;
  }
}

TEST(CudaHeaders, Bf16) {
  for (const float x : samples()) {
    const auto theirs = static_cast<__nv_bfloat16_raw>(__float2bfloat16_rn(x)).x;
    ASSERT_EQ(encode_bf16(x), theirs) << x;
    ASSERT_EQ(encode_bf16(static_cast<double>(x)), theirs) << x;
  }
}

TEST(CudaHeaders, E4m3) {
  for (const float x : samples())
    ASSERT_EQ(encode_e4m3(x), __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3)) << x;
  for (unsigned code = 0; code < 256; ++code) {
    const auto fp8 = static_cast<__nv_fp8_storage_t>(code);
    const float theirs = __half2float(__half(__nv_cvt_fp8_to_halfraw(fp8, __NV_E4M3)));
    const float ours = decode_e4m3(fp8);
    ASSERT_TRUE(theirs == ours || (std::isnan(theirs) && std::isnan(ours))) << code;
  }
}

TEST(CudaHeaders, E5m2) {
  for (const float x : samples())
    ASSERT_EQ(encode_e5m2(x), __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E5M2)) << x;
  for (unsigned code = 0; code < 256; ++code) {
    const auto fp8 = static_cast<__nv_fp8_storage_t>(code);
    const float theirs = __half2float(__half(__nv_cvt_fp8_to_halfraw(fp8, __NV_E5M2)));
    const float ours = decode_e5m2(fp8);
    ASSERT_TRUE(theirs == ours || (std::isnan(theirs) && std::isnan(ours))) << code;
  }
}

TEST(CudaHeaders, E2m1) {
  for (const float x : samples())
    ASSERT_EQ(encode_e2m1(x), __nv_cvt_float_to_fp4(x, __NV_E2M1, cudaRoundNearest)) << x;
  for (unsigned code = 0; code < 16; ++code) {
    const auto fp4 = static_cast<__nv_fp4_storage_t>(code);
    ASSERT_EQ(decode_e2m1(fp4), __half2float(__half(__nv_cvt_fp4_to_halfraw(fp4, __NV_E2M1))));
  }
}

TEST(CudaHeaders, E8m0RoundedUp) {
  for (const float x : samples())
    ASSERT_EQ(encode_e8m0_up(x), __nv_cvt_float_to_e8m0(x, __NV_SATFINITE, cudaRoundPosInf))
        << std::hexfloat << x;
}

}  // namespace
}  // namespace switchyard::formats
