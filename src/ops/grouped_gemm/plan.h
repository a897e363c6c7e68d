#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cuda/context.h"
#include "jit/kernel.h"
#include "ops/grouped_gemm/shared.cuh"

/// FC1 and FC2 of a batch on a GPU, one launch each.
namespace switchyard::grouped_gemm {

struct GpuProblem {
  int tokens = 0;  ///< at most
  int hidden = 0, intermediate = 0;
  int lists = 0;          ///< local experts and shared ones
  int slots_a_token = 0;  ///< top_k and shared ones
  Half half = Half::bf16;
  Weights weights = Weights::half;
  device::ActivationCode activation = device::ActivationCode::swiglu;
  bool bias = false, weight_on_input = false;
  friend bool operator==(const GpuProblem&, const GpuProblem&) = default;
};

/// How much of the output has sums at a time.
struct Spans {
  int width = 1;  ///< wides (Config::wide_rows outputs) of a span
  int slots = 2;  ///< spans that have sums at a time
  friend bool operator==(const Spans&, const Spans&) = default;
};

/// The two launches of a layer.
struct GpuConfigs {
  Config fc1, fc2;
  Spans spans;
  friend bool operator==(const GpuConfigs&, const GpuConfigs&) = default;
};

/// Why the kernel cannot serve `problem` on `device`; empty when it can.
std::optional<std::string> gpu_declines(const GpuProblem& problem, const cuda::DeviceInfo& device);

/// Pairs that fit, best guess first. Pure.
std::vector<GpuConfigs> gpu_candidates(const GpuProblem& problem, const cuda::DeviceInfo& device);

/// How long a problem's GEMMs take, as bytes that memory delivers meanwhile: the candidates' order.
double expected_cost(const GpuProblem& problem, const GpuConfigs& configs, int multiprocessors);

/// "sm90 fc1 block 128 narrow 32 cluster 2 stages 4"
std::string to_string(const Config& config);
jit::Program program(const Config& config, int sm);
jit::Launch launch(const Config& config, jit::Kernel kernel, const cuda::DeviceInfo& device);

/// Bytes of Args::act, of Args::sums and of the rows that FC2 stores instead; spans of the output;
/// words that routing clears: Args::scaled [1], done [spans], emptied [spans], row_bound [rows].
struct Scratch {
  std::int64_t act, sums, rows;
  int spans;
  int bounds;  ///< where row_bound begins among the words
  int flags;
};
Scratch scratch(const GpuProblem& problem, const GpuConfigs& configs, int rows);

}  // namespace switchyard::grouped_gemm
