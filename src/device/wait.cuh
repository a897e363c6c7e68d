#pragma once

#include "device/ptx.cuh"

// Waits end: a kernel that would hang for seconds traps instead, and the host gets an error.

namespace switchyard::device {

constexpr uint64 kLongestWait = 10'000'000'000;  // ns

/// Traps if `start`, set by the first call after it was 0, is long ago.
__device__ inline void check_time(uint64& start) {
  const uint64 now = ptx::global_time();
  if (start == 0) start = now;
  if (now - start > kLongestWait) ptx::trap();
}

template <class Done>
__device__ inline void wait_until(const Done& done) {
  uint64 start = 0;
  for (uint32 tries = 1; !done(); ++tries) {
    if (tries % 1024 == 0) check_time(start);
  }
}

/// A ring of stages in shared memory, each with a barrier that says full and one that says empty.
struct Ring {
  uint32 data, full, empty;  // shared-memory addresses; barriers are 8 bytes apart
  __device__ void wait(uint32 barrier, uint32 parity) const {
    wait_until([&] { return ptx::mbarrier_try_wait(barrier, parity); });
  }
};

/// Position in the ring, as every role keeps it.
template <int kStages>
struct Cursor {
  int stage = 0;
  uint32 phase = 0;
  __device__ void advance() {
    if (++stage == kStages) stage = 0, phase ^= 1;
  }
};

}  // namespace switchyard::device
