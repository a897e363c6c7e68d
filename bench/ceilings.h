#pragma once

/// What this machine can do at best, measured beside what is compared with it.
namespace switchyard::bench {

/// GB/s of summing up memory far beyond the caches, the best of a few passes.
double read_ceiling_gbs(int threads);

/// GFLOP/s of independent multiply-adds in the widest vectors that the library uses.
double flop_ceiling_gflops(int threads);

}  // namespace switchyard::bench
