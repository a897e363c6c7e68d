#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cuda/context.h"
#include "jit/kernel.h"
#include "ops/dense_moe/shared.cuh"

/// The dense GEMMs on a GPU: what is declined and why, tactics, launches. No CUDA call.
namespace switchyard::dense_moe {

/// FC1 [T, H] x [E, 2 I, H] -> [T, E I], or FC2 [T, E I] x [E, H, I] -> [T, H].
struct GpuProblem {
  Phase phase = Phase::fc2;
  int tokens = 0;  ///< at most
  int experts = 0, hidden = 0, intermediate = 0;
  Out out = Out::bf16;
  bool post = false;  ///< FC1: alpha_post is given

  int rows() const noexcept { return phase == Phase::fc1 ? 2 * intermediate : hidden; }
  int width() const noexcept { return phase == Phase::fc1 ? hidden : intermediate; }
  friend bool operator==(const GpuProblem&, const GpuProblem&) = default;
};

/// Why something is not served, for programs and for people.
enum class Reason {
  sm_unsupported,
  dtype_unsupported,
  shape_unaligned,
  shape_too_large,
  quant_unsupported,
  activation_unsupported,
  topology_unsupported,
  layer_unsupported
};
std::string name(Reason reason);  ///< "SHAPE_UNALIGNED"
struct Decline {
  Reason reason;
  std::string text;
};

/// Why no tactic serves `problem` on `device`; empty when at least the fallback does.
std::optional<Decline> declines(const GpuProblem& problem, const cuda::DeviceInfo& device);

/// One way to compute a problem.
struct Tactic {
  Config config;
  int split = 0;  ///< parts of a sum, whole experts each: 1, 2, 4; 0: equal shares for all CTAs
  friend bool operator==(const Tactic&, const Tactic&) = default;
};
/// "(256,32)(2,1) wgmma depth 4 stages 5 x1 sk2 swap1": rows of weights and tokens of a CTA's tile,
/// CTAs that share tokens, instruction, ring, CTAs an SM, parts of a sum, weights as A
std::string to_string(const Tactic& tactic);

/// Why `tactic` cannot serve `problem`; empty when it can.
std::optional<std::string> declines(const GpuProblem& problem, const Tactic& tactic,
                                    const cuda::DeviceInfo& device);
/// Every tactic that serves `problem`, best guess first. Never empty unless the problem is
/// declined: the last one is the fallback, which has no limits of its own. Pure.
std::vector<Tactic> tactics(const GpuProblem& problem, const cuda::DeviceInfo& device);
/// How long it takes, in microseconds.
double expected_us(const GpuProblem& problem, const Tactic& tactic, const cuda::DeviceInfo& device);

/// Blocks of tokens, and rows of each, a multiple of 8.
struct Blocks {
  int count, rows;
};
Blocks blocks_of(int tokens, const Config& config);

jit::Program program(const Config& config, int sm);
/// `alpha` of alpha.cuh, for at most `tokens` tokens.
jit::Program alpha_program(int sm);
jit::Launch alpha_launch(int tokens, jit::Kernel kernel);
jit::Launch launch(const GpuProblem& problem, const Tactic& tactic, jit::Kernel kernel,
                   const cuda::DeviceInfo& device);

/// Bytes of scratch, at the offsets of its parts; 256-byte aligned.
struct Scratch {
  std::int64_t tiles, steps, rests, partial, marks, barrier, bytes;
};
Scratch scratch(const GpuProblem& problem, const Tactic& tactic, const cuda::DeviceInfo& device);

}  // namespace switchyard::dense_moe
