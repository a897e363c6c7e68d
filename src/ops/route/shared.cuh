// What host and device share of routing: logits -> experts, weights and the lists that the GEMMs
// walk.
#pragma once

#include "device/half.cuh"
#include "device/lists.cuh"
#include "device/router.cuh"
#include "device/types.cuh"

namespace switchyard::route {

/// What a launch does: choose experts, list rows by expert, or both.
enum class Stage : int { select, group, both };

/// T tokens, E experts that the router knows, L lists (local experts, then shared ones), K slots.
/// Stage::group reads the router's ids and weights, the others write them.
struct Args {
  device::Router router;
  const uint16* tokens;      // [T, H]  with a shared gate
  const float* shared_gate;  // [H] or null
  const int* token_count;    // [1] or null: T on the device, at most `tokens`
  device::Lists lists;       // K + shared slots a token
  uint32* flag;              // [flags] cleared for the kernels that follow
  int token_limit, locals, hidden, flags;
  int block;  // rows of a block at most
};

struct Config {
  Stage stage;
  device::Selection select;
  bool unique;  // a token's ids differ: this library has chosen them
  int shared;   // shared experts: every token, weight 1 or its gate
  Half half;    // of the tokens
  static constexpr int kThreads = 512;
  static constexpr int kMaxLists = 1024;
  static constexpr int kCluster = 8;  // CTAs that group a batch, at most
  static constexpr int kRound = 128;  // tokens that are placed at once; Stage::both has one
};

}  // namespace switchyard::route
