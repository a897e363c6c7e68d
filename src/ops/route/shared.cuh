// What host and device share of routing: logits -> experts, weights and the lists that the GEMMs
// walk.
#pragma once

#include "device/half.cuh"
#include "device/lists.cuh"
#include "device/types.cuh"

namespace switchyard::route {

enum class Score : int { softmax, sigmoid, sqrt_softplus, logits };
enum class Normalize : int { none, sum, softmax };
enum class Groups : int { none, maximum, top2_sum };
/// What a launch does: choose experts, list rows by expert, or both.
enum class Stage : int { select, group, both };

enum class Logits : int { f32, bf16, fp16 };

/// T tokens, E experts that the router knows, L lists (local experts, then shared ones), K slots.
struct Args {
  const void* logits;            // [T, E]  f32, bf16 or fp16
  const float* correction;       // [E] or null, added to the scores for selection
  const int* hash_table;         // [vocabulary, K] or null: experts by input id
  const void* input_ids;         // [T]  i32 or i64, with a hash table
  const int* expert_map;         // [E] or null: local expert or -1
  const uint16* tokens;          // [T, H]  with a shared gate
  const float* shared_gate;      // [H] or null
  const int* token_count;        // [1] or null: T on the device, at most `tokens`
  int* expert_ids;               // [T, K]  in of Stage::group, else out
  float* expert_weights;         // [T, K]  the same
  device::Lists lists;           // K + shared slots a token
  uint32* flag;                  // [flags] cleared for the kernels that follow
  unsigned long long* counters;  // [3] or null: bad ids, non-finite weights, NaN logits; added to
  int token_limit, experts, locals, hidden, flags, vocabulary;
  int block;      // rows of a block at most
  Logits type;    // of `logits`
  bool wide_ids;  // input ids are i64
  float scaling;
};

struct Config {
  Stage stage;
  int top_k;     // K <= 32
  int per_lane;  // ceil(E / 32)
  Score score;
  Normalize normalize;
  Groups group;
  int groups, topk_groups, group_size;  // 1, 1, 0 without groups
  bool unique;                          // a token's ids differ: this library has chosen them
  int shared;                           // shared experts: every token, weight 1 or its gate
  Half half;                            // of the tokens
  static constexpr int kThreads = 512;
  static constexpr int kMaxLists = 1024;
  static constexpr int kCluster = 8;  // CTAs that group a batch, at most
  static constexpr int kRound = 128;  // tokens that are placed at once; Stage::both has one
};

}  // namespace switchyard::route
