#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "switchyard/checkpoint.h"
#include "switchyard/config.h"
#include "switchyard/problem.h"

namespace switchyard::cli {

using Json = nlohmann::ordered_json;

/// "3.4 GiB"
std::string human_bytes(std::int64_t bytes);

/// "850 ns", "12.5 us", "3.1 ms", "2.75 s"
std::string human_time(double us);

/// "64 experts, top-6 by deepseek_v3 (8 groups, 4 kept), swiglu, H 2048, I 1408, ..."
std::string describe(const MoeConfig& config);

/// "nvfp4", or "nvfp4 / bf16" where the two projections differ.
std::string formats(const CheckpointLayer& layer);

Json to_json(const MoeConfig& config);
Json to_json(const CheckpointLayer& layer);
Json to_json(const CheckReport& report);

/// "passed  error 0.84 of 2 ..." or "FAILED ..."
std::string describe(const CheckReport& report);

/// One document on stdout, two spaces deep.
void print(const Json& json);

}  // namespace switchyard::cli
