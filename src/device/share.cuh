#pragma once

#include "device/types.cuh"

// Work cut into as many equal parts as there are CTAs, wherever the edges of tiles fall.

namespace switchyard::device {

/// A run of k steps inside one tile.
struct Segment {
  int tile, k_begin, k_end;
};

/// Divides numbers below 2^24: the estimate is off by one at most.
struct Divider {
  uint32 divisor;
  float inverse;

  __device__ explicit Divider(uint32 d) : divisor(d), inverse(__frcp_rn(static_cast<float>(d))) {}
  __device__ uint32 quotient(uint32 n) const {
    const auto near = static_cast<uint32>(static_cast<float>(n) * inverse);
    const auto rest = static_cast<int>(n - near * divisor);
    return near + (rest >= static_cast<int>(divisor)) - (rest < 0);
  }
};

/// This CTA's share [next, end) of `tiles` x `depth` steps, cut into segments. Of G CTAs the first
/// min(G, steps) have one; the first `longer` of them one step more than the others.
struct Share {
  Divider depth;
  uint32 length, longer, next, end;

  __device__ Share(int tiles, Divider depth_, Divider ctas) : depth(depth_) {
    const uint32 steps = static_cast<uint32>(tiles) * depth.divisor;
    length = ctas.quotient(steps), longer = steps - length * gridDim.x;
    next = begin(blockIdx.x), end = begin(blockIdx.x + 1);
  }
  __device__ uint32 begin(uint32 cta) const { return cta * length + min(cta, longer); }
  /// One past the last CTA that has steps of `tile`.
  __device__ int last_worker(int tile) const {
    const uint32 last = static_cast<uint32>(tile + 1) * depth.divisor - 1;
    const uint32 cut = longer * (length + 1);
    return static_cast<int>(1 +
                            (last < cut ? last / (length + 1) : longer + (last - cut) / length));
  }
  __device__ bool take(Segment& segment) {
    if (next >= end) return false;
    const uint32 tile = depth.quotient(next), k = next - tile * depth.divisor;
    segment.tile = static_cast<int>(tile);
    segment.k_begin = static_cast<int>(k);
    segment.k_end = static_cast<int>(min(end - next + k, depth.divisor));
    next += segment.k_end - k;
    return true;
  }
};

}  // namespace switchyard::device
