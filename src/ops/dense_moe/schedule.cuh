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
  int wide;   // row_tiles() row tiles of the expert's, beyond the matrix in the last cluster, maybe
  int block;  // of tokens
  int begin, end;
  bool finishes;
  int slot;    // of Args::partial, for who does not finish
  int others;  // parts of the job behind this one; their slots follow, a cluster apart
};

/// Two numbers are kept, so that registers are left; the others are computed where they are needed,
/// which is rarely.
template <Config kConfig>
struct Schedule {
  const Args& args;
  int next, end;  // FC1 and whole parts: segments; equal shares: units

  static constexpr bool kFc1 = kConfig.phase == Phase::fc1;

  __device__ explicit Schedule(const Args& a) : args(a) {
    if (split() > 0) {
      next = worker(), end = jobs() * split();
    } else {
      next = first_of(worker()), end = first_of(worker() + 1);
    }
  }

  /// How many experts count.
  __device__ int experts() const {
    return args.experts_listed ? *args.experts_listed : args.experts;
  }
  /// The expert at a place of the list.
  __device__ int listed(int place) const {
    return args.experts_listed ? args.experts_listed[1 + place] : place;
  }
  /// Of a job. With no expert at all jobs are whole, and zeros.
  __device__ int units() const { return kFc1 ? 1 : experts(); }
  __device__ int split() const { return units() == 0 ? 1 : args.split; }
  /// Of a cluster: tiles of an expert's rows.
  __device__ int groups() const {
    constexpr int kTiles = kConfig.row_tiles() * kConfig.cluster;
    return (args.row_tiles + kTiles - 1) / kTiles;
  }
  __device__ int jobs() const { return groups() * args.x.blocks * (kFc1 ? experts() : 1); }

  __device__ static int workers() { return static_cast<int>(gridDim.x) / kConfig.cluster; }
  __device__ static int worker() { return static_cast<int>(blockIdx.x) / kConfig.cluster; }
  __device__ static int rank() { return static_cast<int>(blockIdx.x) % kConfig.cluster; }

  /// Of equal shares: the first unit of worker `of`, and the worker that has a unit. The first
  /// `longer` have one more than `length`.
  __device__ int length() const { return jobs() * units() / workers(); }
  __device__ int longer() const { return jobs() * units() % workers(); }
  __device__ int first_of(int of) const { return of * length() + min(of, longer()); }
  __device__ int worker_of(int unit) const {
    const int cut = longer() * (length() + 1);
    return unit < cut ? unit / (length() + 1) : longer() + (unit - cut) / length();
  }

  __device__ bool take(Segment& s) {
    if (next >= end) return false;
    int job;
    if (split() > 0) {
      job = next / split();
      const int part = next % split();
      s.begin = part * units() / split(), s.end = (part + 1) * units() / split();
      s.slot = next, s.others = split() - 1;
      s.finishes = part == 0;
      next += workers();
    } else {
      job = next / units();
      s.begin = next % units(), s.end = min(units(), s.begin + end - next);
      s.slot = worker(), s.others = worker_of((job + 1) * units() - 1) - worker();
      s.finishes = s.begin == 0;
      next += s.end - s.begin;
    }
    s.slot = s.slot * kConfig.cluster + rank();
    s.block = job % args.x.blocks, job /= args.x.blocks;
    s.wide = job % groups() * kConfig.cluster + rank();
    s.expert = kFc1 ? listed(job / groups()) : 0;
    return true;
  }
};

}  // namespace switchyard::dense_moe
