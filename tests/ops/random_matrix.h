#pragma once

#include <cstdint>
#include <random>
#include <string_view>

#include "switchyard/weights.h"

namespace switchyard::testing {

enum class ActOrder { no, yes };

/// A matrix of random codes and scales that are finite numbers: every bit pattern that a format
/// allows turns up, not only those that a quantiser makes.
ExpertMatrix random_matrix(std::string_view format, std::int64_t experts, std::int64_t out,
                           std::int64_t in, std::mt19937_64& random, int parts = 1,
                           ActOrder act_order = ActOrder::no);

}  // namespace switchyard::testing
