// What host and device share of the sum over a token's experts as a launch of its own.
#pragma once

#include "device/half.cuh"
#include "device/lists.cuh"

namespace switchyard::finalize {

/// The kernel's only parameter. T tokens, H hidden (a multiple of 8), R rows, K slots a token.
struct Args {
  const uint16* rows;       // [R, H]  an expert's output for a token, scaled (device/row_scale.cuh)
  const uint32* row_bound;  // [R]  f32
  device::Lists lists;      // slot_row [T, K] and row_weight [R]
  const int* token_count;   // [1] or null: T on the device, at most token_limit
  uint16* out;              // [T, H]
  int token_limit, hidden, slots_a_token;
};

/// What the kernel is compiled for.
struct Config {
  Half half;
  bool weighted;  // rows are multiplied by their router weight
  friend bool operator==(const Config&, const Config&) = default;

  static constexpr int kThreads = 128;
  static constexpr int kWidth = 8 * kThreads;  // outputs of a CTA
};

}  // namespace switchyard::finalize
