// What host and device share of routing small batches: logits -> experts, weights and the lists
// that fused_moe walks.
#pragma once

#include "device/types.cuh"

namespace switchyard::route {

enum class Score : int { softmax, sigmoid, sqrt_softplus, logits };
enum class Normalize : int { none, sum, softmax };

/// T tokens, E experts, K slots a token, R = T K rows, B blocks of one expert's rows.
struct Args {
  const void* logits;       // [T, E]  f32 or bf16
  const float* logit_bias;  // [E] or null, added to the logits
  const float* correction;  // [E] or null, added to the scores for selection
  const int* expert_map;    // [E] or null: local expert or -1
  int* expert_ids;          // [T, K]
  float* expert_weights;    // [T, K]
  int* block_count;         // [1]
  int* block_expert;        // [B]     ascending
  int* block_row;           // [B + 1] first row of each block
  int* row_token;           // [R]     ascending within an expert
  float* row_weight;        // [R]
  uint32* flag;             // [flags] cleared for the kernel that follows
  int tokens, experts, flags;
  float scaling;
};

struct Config {
  int top_k;     // K <= 32
  int per_lane;  // ceil(E / 32)
  Score score;
  Normalize normalize;
  int groups, topk_groups, group_size;  // 1, 1, 0 without groups
  bool bf16_logits;
  int block;  // rows of a block at most
  static constexpr int kThreads = 1024;
  static constexpr int kMaxTokens = 128;
  static constexpr int kMaxExperts = 1024;
};

}  // namespace switchyard::route
