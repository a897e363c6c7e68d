#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/print.h"
#include "switchyard/checkpoint.h"

namespace switchyard::cli {

/// What one `switchyard run` did and found.
struct RunReport {
  std::string family;
  CheckpointLayer layer;
  MoeConfig config;  ///< of this part
  Part tp, ep;
  Device device;
  std::int64_t weight_bytes = 0;
  double load_seconds = 0;
  std::vector<double> run_us;  ///< sorted
  Tensor out, expert_ids, expert_weights;
  MoeCounters counters;
  std::optional<CheckReport> check;

  int tokens() const { return static_cast<int>(out.shape()[0]); }
  double median_us() const { return run_us[run_us.size() / 2]; }
};

/// [E] (+ zero experts): slots that went to each expert.
std::vector<int> tokens_per_expert(const RunReport& report);

void print(const RunReport& report);
Json to_json(const RunReport& report);

}  // namespace switchyard::cli
