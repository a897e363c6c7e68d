#pragma once

#include <string>
#include <vector>

#include "switchyard/problem.h"

namespace switchyard::tune {

/// The batch sizes up to `max_tokens` that are tuned: 1, 2, 4, then
///
///   steps of    8   128   256    512   and 8192, which serves all above
///   to        128   512  2048   4096
std::vector<int> buckets(int max_tokens);

/// The largest bucket <= `tokens`; 1 for none. It does not depend on what else was tuned, so that
/// no batch size falls between the buckets.
int bucket_of(int tokens);

/// The next one; 0 if there is none.
int bucket_above(int tokens);

/// The problem line under which a pick is stored: what changes a kernel or its speed. The bucket's
/// tokens, no load (a pick serves every load), constants of routing and activation as they usually
/// are, and rank 0 of expert-parallel ranks, so that all of them share a pick. A tensor-parallel
/// part is a layer of its own, as its rank sees it.
std::string key_of(MoeProblem problem);

}  // namespace switchyard::tune
