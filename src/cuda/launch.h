#pragma once

#include "cuda/api.h"

namespace switchyard::cuda {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  friend bool operator==(const Dim3&, const Dim3&) = default;
};

struct LaunchShape {
  Dim3 grid, block, cluster;      // cluster 1 x 1 x 1: none
  int smem_bytes = 0;             // dynamic
  bool overlap_previous = false;  // programmatic dependent launch: the kernel waits by itself
};

/// Enqueues `function` with its one parameter. An empty grid enqueues nothing. The function's
/// context must be current.
void launch(CUfunction function, const LaunchShape& shape, const void* parameter, CUstream stream);

}  // namespace switchyard::cuda
