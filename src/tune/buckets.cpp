#include "tune/buckets.h"

#include <algorithm>

namespace switchyard::tune {
namespace {

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
  for (long long tokens = 1; tokens <= max_tokens; tokens += step_from(static_cast<int>(tokens)))
    all.push_back(static_cast<int>(tokens));
  return all;
}

int bucket_of(int tokens) {
  const std::vector<int> all = buckets(std::max(tokens, 1));
  return all.back();
}

std::string key_of(MoeProblem problem) {
  problem.tokens = bucket_of(problem.tokens);
  problem.load = MoeProblem{}.load;
  problem.tp_rank = problem.ep_rank = 0;
  return to_string(problem);
}

}  // namespace switchyard::tune
