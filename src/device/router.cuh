#pragma once

#include "device/types.cuh"

// What a router is told, on the host and in the kernels that choose experts.

namespace switchyard::device {

enum class Score : int { softmax, sigmoid, sqrt_softplus, logits };
enum class Normalize : int { none, sum, softmax };
enum class Groups : int { none, maximum, top2_sum };
enum class Logits : int { f32, bf16, fp16 };

/// How a token's experts are chosen; kernels are compiled for it.
struct Selection {
  int top_k;     // K <= 32
  int per_lane;  // ceil(E / 32)
  Score score;
  Normalize normalize;
  Groups group;
  int groups, topk_groups, group_size;  // 1, 1, 0 without groups
  friend bool operator==(const Selection&, const Selection&) = default;
};

/// Floats of scratch that a warp needs for `experts` experts.
constexpr int select_scratch(const Selection& selection, int experts) {
  return selection.groups > 1 ? experts : 0;
}

/// T tokens, E experts that the router knows, K slots.
struct Router {
  const void* logits;            // [T, E]  f32, bf16 or fp16; null if ids are given
  const float* correction;       // [E] or null, added to the scores for selection
  const int* hash_table;         // [vocabulary, K] or null: experts by input id
  const void* input_ids;         // [T]  i32 or i64, with a hash table
  const int* expert_map;         // [E] or null: local expert or -1
  int* expert_ids;               // [T, K]  out of logits, or given
  float* expert_weights;         // [T, K]  the same
  unsigned long long* counters;  // [3] or null: bad ids, non-finite weights, NaN logits; added to
  int experts, vocabulary;
  Logits type;    // of `logits`
  bool wide_ids;  // input ids are i64
  float scaling;
};

}  // namespace switchyard::device
