#pragma once

#include <map>
#include <string>
#include <vector>

#include "cli/report/rows.h"

namespace switchyard::cli::report {

/// Rows by their batch size (or another number that varies).
using Sweep = std::map<int, Row>;

/// One layer on one machine at several batch sizes. Of several rows for one cell the last counts.
struct Layer {
  std::string machine, preset;
  std::string name;        ///< "qwen3-30b-a3b, bf16", "h2048 i768 e16 k8, bf16, balanced"
  std::string short_name;  ///< without the format, for where it is everyone's
  Sweep ours;
  std::map<std::string, Sweep> peers;

  /// Worth a chart: a preset at some batch sizes, or any layer at many.
  bool shown() const { return ours.size() >= (preset.empty() ? 6 : 2); }
};

/// In the order in which they appear in `rows`, the machine with most layers first.
std::vector<Layer> layers_of(const std::vector<Row>& rows);

/// Each once, in the order of `layers`.
std::vector<std::string> machines_of(const std::vector<Layer>& layers);

/// What the time depends on beside the batch.
enum class Axis { experts, top_k };

/// Layers that differ in one number, at those batch sizes that have three or more of it.
struct Scaling {
  std::string machine, name;       ///< name: what stays, "h2048 i768 k8, bf16"
  std::map<int, Sweep> by_tokens;  ///< tokens -> experts or top-k -> row
};
std::vector<Scaling> scaling_of(const std::vector<Row>& rows, Axis axis);

/// The same cell in two sets of results.
struct Change {
  enum class Verdict { slower, faster, same };
  std::string machine;
  std::string name, short_name;  ///< of the layer, and of the peer
  Row before, now;

  double ratio() const { return now.median_us / before.median_us; }
  /// A change is more than 2 % and more than the noise: the ranges p10 to p90 do not meet.
  Verdict verdict() const;
};

/// The cells that both sets have, slowest first.
std::vector<Change> changes_of(const std::vector<Layer>& now, const std::vector<Layer>& before);

/// The middle value, or the mean of the two in the middle; of at least one.
double median(std::vector<double> values);

}  // namespace switchyard::cli::report
