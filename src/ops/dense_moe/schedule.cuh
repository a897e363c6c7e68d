#pragma once

#include "ops/dense_moe/shared.cuh"

// Which parts of which sums a CTA makes. A job is a tile of the output: rows of weights and a block
// of tokens. Its sum has units, which nothing cuts: experts (FC2), or the only one (FC1). Whoever
// has a job's first units finishes it, and adds what the others hand over in the order of units.
//
// The same weights are the next job's, if there are several blocks of tokens.

namespace switchyard::dense_moe {

/// Units [begin, end) of a job.
struct Segment {
  int expert;  // FC1
  int wide;    // row_tiles() row tiles of the expert's
  int block;   // of tokens
  int begin, end;
  bool finishes;
  int slot;    // of Args::partial, for who does not finish
  int others;  // parts of the job behind this one; their slots follow, a cluster apart
};

template <Config kConfig>
struct Schedule {
  const Args& args;
  const int experts;  // that count
  const int wides;
  const int units;  // of a job
  const int jobs;   // of clusters
  const int split;  // with no expert at all whole jobs, which are zeros
  int next, end;    // FC1 and whole parts: segments; equal shares: units
  int length, longer;

  static constexpr bool kFc1 = kConfig.phase == Phase::fc1;

  __device__ explicit Schedule(const Args& a)
      : args(a),
        experts(a.experts_listed ? *a.experts_listed : a.experts),
        wides((a.row_tiles + kConfig.row_tiles() - 1) / kConfig.row_tiles()),
        units(kFc1 ? 1 : experts),
        jobs((wides + kConfig.cluster - 1) / kConfig.cluster * a.x.blocks * (kFc1 ? experts : 1)),
        split(units == 0 ? 1 : a.split) {
    if (split > 0) {
      next = worker(), end = jobs * split;
    } else {
      length = jobs * units / workers(), longer = jobs * units - length * workers();
      next = first_of(worker()), end = first_of(worker() + 1);
    }
  }

  /// The expert at a place of the list.
  __device__ int listed(int place) const {
    return args.experts_listed ? args.experts_listed[1 + place] : place;
  }
  __device__ static int workers() { return static_cast<int>(gridDim.x) / kConfig.cluster; }
  __device__ static int worker() { return static_cast<int>(blockIdx.x) / kConfig.cluster; }
  __device__ static int rank() { return static_cast<int>(blockIdx.x) % kConfig.cluster; }
  __device__ int first_of(int of) const { return of * length + min(of, longer); }

  __device__ bool take(Segment& s) {
    if (next >= end) return false;
    int job;
    if (split > 0) {
      job = next / split;
      const int part = next % split;
      s.begin = part * units / split, s.end = (part + 1) * units / split;
      s.finishes = part == 0;
      s.slot = next, s.others = split - 1;
      next += workers();
    } else {
      job = next / units;
      s.begin = next % units, s.end = min(units, s.begin + end - next);
      s.finishes = s.begin == 0;
      const int last = (job + 1) * units - 1, cut = longer * (length + 1);
      s.slot = worker();
      s.others = (last < cut ? last / (length + 1) : longer + (last - cut) / length) - worker();
      next += s.end - s.begin;
    }
    s.block = job % args.x.blocks, job /= args.x.blocks;
    s.slot = s.slot * kConfig.cluster + rank();
    const int groups = (wides + kConfig.cluster - 1) / kConfig.cluster;
    s.wide = job % groups * kConfig.cluster + rank();  // beyond the matrix in the last group, maybe
    s.expert = kFc1 ? listed(job / groups) : 0;
    return true;
  }
};

}  // namespace switchyard::dense_moe
