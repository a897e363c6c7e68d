#pragma once

#include "device/half.cuh"
#include "device/types.cuh"

#ifdef __CUDACC__
#include "device/ptx.cuh"
#endif

// Four-bit weights as the tensor cores' A operand: how a tile holds them, and how they become pairs
// of bf16 in registers. The integer steps run on the host too, where tests go through every case.
//
// A thread has 8 of the 16 x 16 weights that a warp multiplies at a time (m16k16): with lane = 4 g
// + t, rows g and g + 8, columns 2 t, 2 t + 1 and 8 more. They are four pairs of neighbours:
//
//   pair 0: row g   1: row g + 8   2: row g, columns + 8   3: row g + 8, columns + 8
//
// A 32-bit word holds a thread's 8 codes, the even column of each pair in its lower half. One mask
// finds pair 0, and after a shift by 3 or 6 pairs 1 and 2: sign at bit 15, the other three bits at
// 8..6, where bf16 has them. Those values are 2^-126 times the weights' codes, exactly, subnormals
// included. The bits that this leaves, 14, 13, 11 and 10, of the words of two neighbouring column
// groups together hold both their pairs 3.

namespace switchyard::device {

constexpr uint32 kFp4Mask = 0x81C081C0;

/// Codes of two words, as pairs of bf16 that are 2^-126 too small.
struct Fp4Pairs {
  uint32 even[4], odd[4];  // of the word of an even and of an odd group of 16 columns
};

SWITCHYARD_BOTH constexpr Fp4Pairs spread_fp4(uint32 even, uint32 odd) {
  const uint32 rest = (even << 1 & 0x90009000) | (even >> 7 & 0x00480048) | (odd >> 6 & 0x01B001B0);
  return {{even & kFp4Mask, even << 3 & kFp4Mask, even << 6 & kFp4Mask, rest & kFp4Mask},
          {odd & kFp4Mask, odd << 3 & kFp4Mask, odd << 6 & kFp4Mask, rest << 3 & kFp4Mask}};
}

/// The codes of two neighbouring columns, the even one in the low nibble, as in a pair's register.
SWITCHYARD_BOTH constexpr uint32 widen_fp4(uint32 codes) {
  return (codes & 0x8) << 12 | (codes & 0x7) << 6 | (codes & 0x80) << 24 | (codes & 0x70) << 18;
}
SWITCHYARD_BOTH constexpr uint32 narrow_fp4(uint32 pair) {
  return (pair >> 12 & 0x8) | (pair >> 6 & 0x7) | (pair >> 24 & 0x80) | (pair >> 18 & 0x70);
}

/// The inverse of spread_fp4().
SWITCHYARD_BOTH constexpr void join_fp4(const Fp4Pairs& pairs, uint32& even, uint32& odd) {
  const uint32 rest = pairs.even[3] | pairs.odd[3] >> 3;
  even = pairs.even[0] | pairs.even[1] >> 3 | pairs.even[2] >> 6 | (rest & 0x90009000) >> 1 |
         (rest & 0x00480048) << 7;
  odd = pairs.odd[0] | pairs.odd[1] >> 3 | pairs.odd[2] >> 6 | (rest & 0x01B001B0) << 6;
}

/// A bit of the word pair.
struct Fp4Bit {
  int word;  // 0 even, 1 odd
  int bit;
};

/// Where bit `bit` (0 mantissa, 1 and 2 exponent, 3 sign) of a code lies: of the word of column
/// group `group` % 2, of pair `pair`, of the pair's column `column` (0 or 1).
SWITCHYARD_BOTH constexpr Fp4Bit place_of(int group, int pair, int column, int bit) {
  const int base = 16 * column;
  if (pair < 3) return {group % 2, base + (bit == 3 ? 15 : 6 + bit) - 3 * pair};
  const int high = group % 2 == 0 ? 13 : 10;  // of two bits; sign and mantissa in the even word
  return {bit == 3 || bit == 0 ? 0 : 1, base + high + (bit == 3 || bit == 2)};
}

// --- NVFP4 scales -----------------------------------------------------------------------------
//
// E4M3 without a sign, its subnormals normalised: 5 bits of exponent, 3 of mantissa. A shift and an
// addition make a bf16 that is 2^119 times the scale; with the 2^-126 of the codes, 2^-7 is left,
// which the expert's factor takes back. Beyond the exponents are infinity and NaN, and then bf16's
// other zero, which is the zero of scales: its block keeps its codes.

constexpr float kFp4Factor = 128;
constexpr int kNvfp4Bias = 2;  // the smallest scale, 2^-9, is 1.0 x 2^(-2 - 7)
constexpr uint8 kNanScale = 148;
constexpr uint8 kZeroScale = 152;

/// Of a scale that is not negative.
SWITCHYARD_BOTH constexpr uint8 encode_scale(uint8 e4m3) {
  if (e4m3 == 0) return kZeroScale;
  if (e4m3 == 0x7f) return kNanScale;
  int exponent = e4m3 >> 3, mantissa = e4m3 & 7;
  if (exponent == 0) {
    for (exponent = 1; mantissa < 8; --exponent) mantissa <<= 1;
    mantissa &= 7;
  }
  return static_cast<uint8>((exponent + kNvfp4Bias) << 3 | mantissa);
}
SWITCHYARD_BOTH constexpr uint8 decode_scale(uint8 code) {
  if (code == kZeroScale) return 0;
  if (code == kNanScale) return 0x7f;
  int exponent = (code >> 3) - kNvfp4Bias, mantissa = code & 7;
  if (exponent >= 1) return static_cast<uint8>(exponent << 3 | mantissa);
  for (mantissa |= 8; exponent < 1; ++exponent) mantissa >>= 1;
  return static_cast<uint8>(mantissa);
}
/// A pair of bf16 from the two codes in the low bytes of the halves of `codes`.
SWITCHYARD_BOTH constexpr uint32 expand_scales(uint32 codes) {
  return codes * 16 + 0x76807680;
}

// --- MXFP4 scales -----------------------------------------------------------------------------
//
// E8M0, a power of two for 32 columns, as the exponent of a bf16 that is 2^(119 - shift) times the
// scale. `shift` is the layer's: 0 unless a scale is above 2^8.

constexpr int kMxfp4Bias = 119;

SWITCHYARD_BOTH constexpr uint32 expand_exponents(uint32 codes) {
  return codes << 7;
}

// --- both -------------------------------------------------------------------------------------

/// Bytes of a tile of 128 rows x 64 columns: codes, then scales.
constexpr int kFp4CodeBytes = 128 * 64 / 2;
SWITCHYARD_BOTH constexpr int fp4_scale_bytes(Weights weights) {
  return weights == Weights::nvfp4 ? 128 * 64 / 16 : 128 * 64 / 32;
}
/// Of a tile of any weights.
SWITCHYARD_BOTH constexpr int tile_bytes(Weights weights) {
  return weights == Weights::half ? 128 * 64 * 2 : kFp4CodeBytes + fp4_scale_bytes(weights);
}
/// Where thread (w, g) of a half of the rows finds its scales among a tile's: a word for 32 columns
/// (NVFP4) or 64.
SWITCHYARD_BOTH constexpr int fp4_scales_at(Weights weights, int w, int g, int half) {
  const int words = weights == Weights::nvfp4 ? 2 : 1;
  return ((w * 8 + g) * 2 + half) * words * 4;
}

#ifdef __CUDACC__
/// Of rows g and g + 8 of one half of a tile, four groups of 16 columns.
template <Weights kWeights>
struct Fp4Scales {
  uint32 words[2];

  __device__ static Fp4Scales load(uint32 address) {
    if constexpr (kWeights == Weights::nvfp4) {
      const uint2 both = ptx::load_shared_2(address);
      return {{both.x, both.y}};
    } else {
      const uint32 word = ptx::load_shared(address);
      return {{word, word >> 16}};
    }
  }
};

/// The operand registers of two neighbouring groups of 16 columns: the words of their codes, and
/// the word of their scales.
template <Weights kWeights>
__device__ inline void decode_fp4(uint32 even, uint32 odd, uint32 scales, uint32 (&a)[2][4]) {
  const Fp4Pairs pairs = spread_fp4(even, odd);
  const uint32 first = __byte_perm(scales, 0, 0x4140);
  const uint32 s0 = kWeights == Weights::nvfp4 ? expand_scales(first) : expand_exponents(first);
  const uint32 s1 = kWeights == Weights::nvfp4 ? expand_scales(__byte_perm(scales, 0, 0x4342)) : s0;
#pragma unroll
  for (int p = 0; p < 4; ++p) {
    a[0][p] = ptx::multiply_bf16x2(pairs.even[p], p % 2 ? ptx::both_high(s0) : ptx::both_low(s0));
    a[1][p] = ptx::multiply_bf16x2(pairs.odd[p], p % 2 ? ptx::both_high(s1) : ptx::both_low(s1));
  }
}
#endif

}  // namespace switchyard::device
