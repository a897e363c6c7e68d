#pragma once

#include "device/wait.cuh"
#include "ops/grouped_gemm/schedule.cuh"

// Sums over a token's experts that do not depend on the order of additions: integers.
//
// FC1 leaves a bound on what any output of a row's FC2 can be. A token's bounds, weighted, give the
// power of two that makes 2^30 of their sum; every addend is rounded to that unit once and added by
// an integer reduction in L2. Two sums share 64 bits: high * 2^32 + low, low signed.
//
// A load takes thousands of clocks here, because it queues behind the weights that the SM has asked
// for. So nobody who multiplies waits for one: storers have many under way, and a clerk asks for
// and gives the signals between CTAs.

namespace switchyard::grouped_gemm {

constexpr int kStorerWarps = 4;

/// What the warps of a CTA tell each other, by atomic operations.
struct Progress {
  static constexpr uint32 kTurn = 32;  // more tiles than the rings let warps be apart
  uint32 added[kTurn];                 // consumer warps that have added tile i, i + kTurn, ...
  uint32 open;                         // spans whose sums may be added to

  /// A warp's tile, the first is 0.
  __device__ void add(uint32 tile) { atomicAdd(added + tile % kTurn, 1); }
  __device__ bool has_added(uint32 tile, uint32 warps) {
    return atomicOr(added + tile % kTurn, 0) == (tile / kTurn + 1) * warps;
  }
  __device__ bool is_open(int span) { return atomicOr(&open, 0) > static_cast<uint32>(span); }
};

/// A storer warp: scales a part of the CTA's tokens, then stores every kStorerWarps-th span of
/// them.
template <Config kConfig>
struct Storer {
  const Args& args;
  const int warp, lane;
  int begin, end;  // the CTA's tokens

  __device__ Storer(const Args& a, int thread) : args(a), warp(thread / 32), lane(thread % 32) {
    const auto tokens = static_cast<uint32>(
        args.token_count ? min(*args.token_count, args.token_limit) : args.token_limit);
    begin = static_cast<int>(tokens * blockIdx.x / gridDim.x);
    end = static_cast<int>(tokens * (blockIdx.x + 1) / gridDim.x);
  }

  /// Tells everybody what this warp has written.
  __device__ void publish(uint32* counter) const {
    __syncwarp();
    if (lane == 0) ptx::add_release(counter, 1);
  }

  /// row_scale and unit: a lane has a token's slot lane % 8, + 8, ..., and 4 tokens share a warp.
  __device__ void scale() const {
    for (int first = begin + warp * 4; first < end; first += kStorerWarps * 4) {
      const int t = first + lane / 8;
      const bool there = t < end;
      const int* slot_row =
          args.lists.slot_row + static_cast<int64>(there ? t : begin) * args.slots_a_token;
      float bound = 0;
      for (int i = lane % 8; there && i < args.slots_a_token; i += 8)
        if (const int row = slot_row[i]; row >= 0)
          bound += fabsf(weight(row)) * bits_as<float>(__ldcg(args.row_bound + row));
      for (int d = 1; d < 8; d *= 2) bound += __shfl_xor_sync(~0u, bound, d);
      const float unit = unit_of(bound), scale = inverse(unit);
      for (int i = lane % 8; there && i < args.slots_a_token; i += 8)
        if (const int row = slot_row[i]; row >= 0) args.row_scale[row] = weight(row) * scale;
      if (there && lane % 8 == 0) args.unit[t] = unit;
    }
    publish(args.scaled);
  }
  __device__ float weight(int row) const {
    return kConfig.weight_on_input ? 1 : args.lists.row_weight[row];
  }
  /// The power of two that is at least bound / 2^30, from 2^-96 on; NaN if the bound is not finite:
  /// so are the token's outputs then.
  __device__ static float unit_of(float bound) {
    const int exponent = static_cast<int>(bits_as<uint32>(bound) >> 23);
    if (exponent >= 255) return bits_as<float>(0x7fffffffu);
    return bits_as<float>(static_cast<uint32>(max(exponent - 29, 127 - 96)) << 23);
  }
  /// Of a power of two; 0 of NaN.
  __device__ static float inverse(float unit) {
    return unit == unit ? bits_as<float>((254u << 23) - bits_as<uint32>(unit)) : 0;
  }

  /// out[t, wide's columns] of the CTA's tokens, and the sums are zeros again. A lane has rows h,
  /// h + 1, h + 8 and h + 9 of a token's first kRows, then of its next.
  __device__ void store(int wide, uint32* wide_sums) const {
    constexpr int kParts = kConfig.groups;
    constexpr int kDeep = 5 * kParts;  // loads of a lane that are under way at once
    uint4* sums = reinterpret_cast<uint4*>(wide_sums) + begin * (kConfig.wide_rows() / 4) + lane;
    const float* units = args.unit + begin;
    const int h = wide * kConfig.wide_rows() + lane / 4 * 16 + lane % 4 * 2;
    uint16* out = args.out + static_cast<int64>(begin) * args.hidden + h;
    for (int left = kParts * (end - begin); left > 0; left -= kDeep) {
      uint4 chunk[kDeep];
      float unit[kDeep / kParts];
#pragma unroll
      for (int i = 0; i < kDeep; ++i) {
        if (i >= left) continue;
        chunk[i] = __ldcg(sums + i * 32);
        if (i % kParts == 0) unit[i / kParts] = __ldcg(units + i / kParts);
      }
#pragma unroll
      for (int i = 0; i < kDeep; ++i) {
        if (i >= left) continue;
        sums[i * 32] = {0, 0, 0, 0};
        const uint4 v = chunk[i];
        const float u = unit[i / kParts];
        const int column = h + i % kParts * Config::kRows;
        uint16* to = out + i % kParts * Config::kRows;
        if (column < args.hidden) store(to, low(v.x, u), low(v.z, u));
        if (column + 8 < args.hidden) store(to + 8, high(v.x, v.y, u), high(v.z, v.w, u));
        if (i % kParts == kParts - 1) out += args.hidden;
      }
      sums += kDeep * 32, units += kDeep / kParts;
    }
  }
  __device__ static float low(uint32 word, float unit) {
    return static_cast<float>(static_cast<int>(word)) * unit;
  }
  __device__ static float high(uint32 low_word, uint32 word, float unit) {
    return static_cast<float>(static_cast<int>(word + (low_word >> 31))) * unit;
  }
  __device__ static void store(uint16* to, float first, float second) {
    *reinterpret_cast<uint32*>(to) = device::pack_f32<kConfig.half>(first, second);
  }

  __device__ void run() const {
    ptx::wait_previous_kernel();  // FC1 writes row_bound
    scale();
    const Order<kConfig> order(args);
    for (int span = warp; span < order.spans(); span += kStorerWarps) {
      const auto tiles = static_cast<uint32>(order.blocks * order.width(span) * kConfig.cluster);
      if (lane == 0)
        device::wait_until([&] { return ptx::load_acquire(args.done + span) == tiles; });
      __syncwarp();
      for (int i = 0; i < order.width(span); ++i)
        store(span * args.width + i, place(args, span, i));
      publish(args.emptied + span);
    }
  }

  /// The sums of a span's i-th wide, of all tokens.
  __device__ static uint32* place(const Args& args, int span, int i) {
    return args.sums + (static_cast<int64>(span % args.slots) * args.width + i) * args.token_limit *
                           kConfig.wide_rows();
  }
};

/// One thread that opens spans to this CTA's consumers once their sums are zeros, and tells the
/// storers of all CTAs what the consumers have added.
template <Config kConfig>
struct Clerk {
  const Args& args;
  Progress& progress;

  __device__ void run() const {
    const Order<kConfig> order(args);
    const int spans = order.spans();
    int open = 0, told = 0;
    uint64 start = 0;
    while (told < spans) {
      const int before = open + told;
      if (open < spans && may_open(open)) {
        __threadfence_block();
        atomicExch(&progress.open, ++open);
      }
      const int from = order.tiles_before(told), to = order.tiles_before(told + 1);
      if (to == 0 || progress.has_added(static_cast<uint32>(to) - 1, kConfig.consumers() / 32)) {
        __threadfence_block();
        if (to > from) ptx::add_release(args.done + told, to - from);
        ++told;
      }
      if (open + told != before) start = 0;
      device::check_time(start);
    }
  }
  __device__ bool may_open(int span) const {
    if (span == 0) return true;  // a tile's scales are only copied when they are there
    return span < args.slots || ptx::load_acquire(args.emptied + span - args.slots) == gridDim.x;
  }
};

}  // namespace switchyard::grouped_gemm
