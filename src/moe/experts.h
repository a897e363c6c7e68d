#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "moe/group.h"
#include "moe/workspace.h"
#include "ops/grouped_gemm/cpu.h"
#include "switchyard/config.h"
#include "switchyard/weights.h"

/// What the routed experts and the shared expert have in common:
///
///   a = Q1(v * factor1)    g = Wgu . a    h = activation(g + bgu)    o = Wd . Q2(h * factor2)
namespace switchyard::moe {

/// GEMM inputs in the forms that the GEMM reads (grouped_gemm/simd.h), padded columns.
struct OperandSlices {
  Slice f32;    ///< [rows, padded]
  Slice fixed;  ///< [rows, panels] of FixedPanel; empty if never read
};

/// One GEMM and how its input is made.
struct InputPlan {
  grouped_gemm::CpuGemm gemm;
  const float* factor = nullptr;  ///< [E or 1, in]
  bool factor_per_expert = false;
  const float* bias = nullptr;  ///< [E, out]
  ActivationFormat format = ActivationFormat::f32;
  std::optional<float> input_scale;
  OperandSlices operand;
};

struct ExpertsPlan {
  Activation activation;
  bool weight_on_input = false, fused_alpha = false;
  bool input_per_row = false;  ///< else a token's rows share their input
  InputPlan gate_up, down;
  std::vector<float> alpha_factor;  ///< [E]  fused_alpha only
  Slice gate_up_out;                ///< [R, N]  f32
  Slice out;                        ///< [R, W]  f32
};

/// What a plan of `config` does with `experts` for at most `rows` rows of `tokens` tokens.
/// Appends its steps. Throws Unsupported if `choice` forces a variant that declines.
ExpertsPlan plan_experts(const MoeConfig& config, const ExpertWeights& experts, std::int64_t tokens,
                         std::int64_t rows, grouped_gemm::Choice choice, std::string_view name,
                         Arena& arena, std::vector<Step>& steps);

/// `count` consecutive rows of one expert; without `groups` there is one group of all tokens.
struct ExpertsInput {
  const Groups* groups = nullptr;
  std::int64_t tokens = 0;
  const float* v = nullptr;  ///< [T, v_stride]
  std::int64_t v_stride = 0;
  const float* router_weights = nullptr;  ///< [T, K], by slot_of_row
};

/// Writes plan.out: o without its bias, row by row.
void run_experts(const ExpertsPlan& plan, const ExpertsInput& input, ThreadPool& pool,
                 std::span<std::byte> workspace);

}  // namespace switchyard::moe
