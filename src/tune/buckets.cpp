#include "tune/buckets.h"

#include <algorithm>

namespace switchyard::tune {
namespace {

constexpr int kLargest = 8192;

/// The step between buckets from `tokens` on; `tokens` itself: powers of two.
int step_from(int tokens) {
  if (tokens < 8 || tokens >= 4096) return tokens;
  if (tokens < 128) return 8;
  if (tokens < 512) return 128;
  return tokens < 2048 ? 256 : 512;
}

}  // namespace

std::vector<int> buckets(int max_tokens) {
  std::vector<int> all;
  for (int tokens = 1; tokens <= std::min(max_tokens, kLargest); tokens += step_from(tokens))
    all.push_back(tokens);
  return all;
}

int bucket_of(int tokens) {
  const std::vector<int> all = buckets(std::max(tokens, 1));
  return all.back();
}

int bucket_above(int tokens) {
  const int bucket = bucket_of(tokens);
  return bucket < kLargest ? bucket + step_from(bucket) : 0;
}

std::string key_of(MoeProblem problem) {
  MoeConfig& config = problem.config;
  problem.tokens = bucket_of(problem.tokens);
  problem.load = MoeProblem{}.load;
  config.intermediate /= problem.tp_ranks;
  config.shared_intermediate /= problem.tp_ranks;
  problem.tp_rank = 0, problem.tp_ranks = 1, problem.ep_rank = 0;
  config.expert_map.clear();
  config.routing.scaling = 1;
  config.norm_epsilon = MoeConfig{}.norm_epsilon;
  config.activation = activation(config.activation.kind);
  return to_string(problem);
}

}  // namespace switchyard::tune
