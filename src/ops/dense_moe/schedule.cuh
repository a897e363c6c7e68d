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
  int slot;       // of Args::partial, for who does not finish
  int last_slot;  // the others' are slot + 1 .. last_slot
};

template <Config kConfig>
struct Schedule {
  const Args& args;
  const int experts;  // that count
  const int wides;
  const int units;  // of a job
  const int jobs;
  int next, end;  // FC1 and whole parts: segments; equal shares: units
  int length, longer;

  static constexpr bool kFc1 = kConfig.phase == Phase::fc1;

  __device__ explicit Schedule(const Args& a)
      : args(a),
        experts(a.experts_listed ? *a.experts_listed : a.experts),
        wides((a.row_tiles + kConfig.row_tiles() - 1) / kConfig.row_tiles()),
        units(kFc1 ? 1 : experts),
        jobs(wides * a.blocks * (kFc1 ? experts : 1)) {
    const int ctas = static_cast<int>(gridDim.x), cta = static_cast<int>(blockIdx.x);
    if (args.split > 0) {
      next = cta, end = jobs * args.split;
    } else {
      length = jobs * units / ctas, longer = jobs * units - length * ctas;
      next = first_of(cta), end = first_of(cta + 1);
    }
  }

  /// The expert at a place of the list.
  __device__ int listed(int place) const {
    return args.experts_listed ? args.experts_listed[1 + place] : place;
  }
  __device__ int first_of(int cta) const { return cta * length + min(cta, longer); }

  __device__ bool take(Segment& s) {
    if (next >= end) return false;
    int job;
    if (args.split > 0) {
      job = next / args.split;
      const int part = next % args.split;
      s.begin = part * units / args.split, s.end = (part + 1) * units / args.split;
      s.finishes = part == 0;
      s.slot = next, s.last_slot = next + args.split - 1;
      next += static_cast<int>(gridDim.x);
    } else {
      job = next / units;
      s.begin = next % units, s.end = min(units, s.begin + end - next);
      s.finishes = s.begin == 0;
      const int last = (job + 1) * units - 1, cut = longer * (length + 1);
      s.slot = static_cast<int>(blockIdx.x);
      s.last_slot = last < cut ? last / (length + 1) : longer + (last - cut) / length;
      next += s.end - s.begin;
    }
    s.block = job % args.blocks, job /= args.blocks;
    s.wide = job % wides;
    s.expert = kFc1 ? listed(job / wides) : 0;
    return true;
  }
};

}  // namespace switchyard::dense_moe
