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

#ifdef __CUDACC__
/// Which CTA asks.
struct ThisCta {
  __device__ static int ctas() { return static_cast<int>(gridDim.x); }
  __device__ static int cta() { return static_cast<int>(blockIdx.x); }
};
#else
struct ThisCta;
#endif

/// Two numbers are kept, so that registers are left; the others are computed where they are needed,
/// which is rarely. Tests ask on the host, for every CTA.
template <Config kConfig, class Place = ThisCta>
struct Schedule {
  const Args& args;
  int next, end;  // FC1 and whole parts: segments; equal shares: units

  static constexpr bool kFc1 = kConfig.phase == Phase::fc1;

  SWITCHYARD_BOTH explicit Schedule(const Args& a) : args(a) {
    if (split() > 0) {
      next = worker(), end = jobs() * split();
    } else {
      next = first_of(worker()), end = first_of(worker() + 1);
    }
  }

  /// How many experts count.
  SWITCHYARD_BOTH int experts() const {
    return args.experts_listed ? *args.experts_listed : args.experts;
  }
  /// The expert at a place of the list.
  SWITCHYARD_BOTH int listed(int place) const {
    return args.experts_listed ? args.experts_listed[1 + place] : place;
  }
  /// Of a job. With no expert at all jobs are whole, and zeros.
  SWITCHYARD_BOTH int units() const { return kFc1 ? 1 : experts(); }
  SWITCHYARD_BOTH int split() const { return units() == 0 ? 1 : args.split; }
  /// Of a cluster: tiles of an expert's rows.
  SWITCHYARD_BOTH int groups() const {
    constexpr int kTiles = kConfig.row_tiles() * kConfig.cluster;
    return (args.row_tiles + kTiles - 1) / kTiles;
  }
  SWITCHYARD_BOTH int jobs() const { return groups() * args.x.blocks * (kFc1 ? experts() : 1); }

  SWITCHYARD_BOTH static int workers() { return Place::ctas() / kConfig.cluster; }
  SWITCHYARD_BOTH static int worker() { return Place::cta() / kConfig.cluster; }
  SWITCHYARD_BOTH static int rank() { return Place::cta() % kConfig.cluster; }

  /// Of equal shares: the first unit of worker `of`, and the worker that has a unit. The first
  /// `longer` have one more than `length`.
  SWITCHYARD_BOTH int length() const { return jobs() * units() / workers(); }
  SWITCHYARD_BOTH int longer() const { return jobs() * units() % workers(); }
  SWITCHYARD_BOTH int first_of(int of) const {
    return of * length() + (of < longer() ? of : longer());
  }
  SWITCHYARD_BOTH int worker_of(int unit) const {
    const int cut = longer() * (length() + 1);
    return unit < cut ? unit / (length() + 1) : longer() + (unit - cut) / length();
  }

  SWITCHYARD_BOTH bool take(Segment& s) {
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
      s.begin = next % units();
      s.end = s.begin + end - next < units() ? s.begin + end - next : units();
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
