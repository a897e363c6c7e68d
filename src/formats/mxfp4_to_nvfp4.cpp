#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "formats/fp8.cuh"
#include "switchyard/weights.h"

namespace switchyard {
namespace {

constexpr std::uint8_t kNan = 0xff;          // of E8M0
constexpr int kSmallest = -9, kLargest = 8;  // exponents of E4M3's powers of two
constexpr int kLeastGlobal = -126;           // its reciprocal is finite
constexpr std::int64_t kBlock = 16;          // of NVFP4: half of MXFP4's

bool all_zero(const std::uint8_t* codes) {
  return std::all_of(codes, codes + kBlock / 2,
                     [](std::uint8_t pair) { return (pair & 0x77) == 0; });
}

/// What NVFP4's blocks of one expert have for scales.
class Blocks {
 public:
  Blocks(const ExpertMatrix& mxfp4, std::int64_t expert)
      : in_(mxfp4.in()),
        groups_(mxfp4.scales.shape()[2]),
        count_(mxfp4.out() * in_ / kBlock),
        codes_(mxfp4.elements.as<std::uint8_t>() + expert * count_ * kBlock / 2),
        scales_(mxfp4.scales.as<std::uint8_t>() + expert * mxfp4.out() * groups_) {}

  std::int64_t count() const { return count_; }
  /// A power of two that makes every block's scale one of E4M3's; empty if there is none.
  std::optional<int> global() const {
    int smallest = 255, largest = -1;
    for (std::int64_t b = 0; b < count_; ++b) {
      if (code(b) == kNan) return std::nullopt;
      if (all_zero(codes_ + b * kBlock / 2)) continue;
      smallest = std::min<int>(smallest, code(b));
      largest = std::max<int>(largest, code(b));
    }
    if (largest < 0) return 0;  // nothing but zeros
    const int global = std::max(largest - 127 - kLargest, kLeastGlobal);
    if (smallest - 127 - global < kSmallest) return std::nullopt;
    return global;
  }
  std::uint8_t scale(std::int64_t block, int global) const {  // any will do for a block of zeros
    const int exponent = std::clamp(code(block) - 127 - global, kSmallest, kLargest);
    return formats::encode_e4m3(std::ldexp(1.0F, exponent));
  }

 private:
  std::uint8_t code(std::int64_t block) const {
    const std::int64_t row = block * kBlock / in_, column = block * kBlock % in_;
    return scales_[row * groups_ + column / 32];
  }

  std::int64_t in_, groups_, count_;
  const std::uint8_t* codes_;
  const std::uint8_t* scales_;
};

}  // namespace

std::optional<ExpertMatrix> nvfp4_without_loss(const ExpertMatrix& mxfp4) {
  require(mxfp4.format == weight_format("mxfp4"), "[weights] mxfp4: expected that format, got {}.",
          to_string(mxfp4.format));
  check(mxfp4, "mxfp4");
  if (mxfp4.in() % kBlock != 0) return std::nullopt;
  const std::int64_t experts = mxfp4.experts();
  ExpertMatrix to;
  to.format = weight_format("nvfp4");
  to.scales = Tensor(DType::f8_e4m3, {experts, mxfp4.out(), mxfp4.in() / kBlock});
  to.global_scale = Tensor(DType::f32, {experts, 1});
  for (std::int64_t e = 0; e < experts; ++e) {
    const Blocks blocks(mxfp4, e);
    const std::optional<int> global = blocks.global();
    if (!global) return std::nullopt;
    to.global_scale.as<float>()[e] = std::ldexp(1.0F, *global);
    auto* const scales = to.scales.as<std::uint8_t>() + e * blocks.count();
    for (std::int64_t b = 0; b < blocks.count(); ++b) scales[b] = blocks.scale(b, *global);
  }
  to.elements = mxfp4.elements.clone();
  to.bias = mxfp4.bias.clone();
  to.input_factor = mxfp4.input_factor.clone();
  to.input_scale = mxfp4.input_scale.clone();
  return to;
}

}  // namespace switchyard
