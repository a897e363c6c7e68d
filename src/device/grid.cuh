#pragma once

#include "device/ptx.cuh"
#include "device/wait.cuh"

// How the CTAs of a launch tell each other that something is done, in memory that may hold anything
// when the launch begins: bits that other data has only by chance say that a word is in use, and
// whoever is the last to need it puts it back, so that the next launch starts the same way.

namespace switchyard::device {

constexpr uint64 kMark = 0x9d3c5a71e8000000;

/// Of one thread, after a barrier of its CTA: what the CTA has written is visible to who waits.
__device__ inline void set_mark(uint64* mark) {
  ptx::store_release(mark, kMark);
}
/// Of one thread, the only one that waits for `mark`.
__device__ inline void take_mark(uint64* mark) {
  wait_until([&] { return ptx::load_acquire(mark) == kMark; });
  ptx::store_relaxed(mark, 0);
}

/// A barrier of all CTAs, which are resident, once a launch. Its word is kMark with two counts in
/// the lower bits. Each is called by one thread of every CTA.
struct GridBarrier {
  static constexpr int kMaxCtas = 4095;  // a count has 12 bits
  uint64* word;

  /// Before the CTA's other calls, with a barrier of the CTA between.
  __device__ void prepare() const {
    uint64 seen = ptx::load_acquire(word);
    while ((seen ^ kMark) >> 24 != 0) {
      const uint64 before = atomicCAS(word, seen, kMark);
      if (before == seen) return;
      seen = before;
    }
  }
  /// After a barrier of the CTA: what it has written is visible to who waits.
  __device__ void arrive() const { ptx::add_release(word, 1); }
  __device__ void wait() const {
    wait_until([&] { return (ptx::load_acquire(word) & 4095) == gridDim.x; });
  }
  /// After the CTA's last wait(); the last of them leaves the word as prepare() wants it.
  __device__ void pass() const {
    if ((atomicAdd(word, 4096ull) >> 12 & 4095) == gridDim.x - 1) ptx::store_relaxed(word, kMark);
  }
};

}  // namespace switchyard::device
