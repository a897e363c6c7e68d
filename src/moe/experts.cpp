#include "moe/experts.h"

#include <fmt/format.h>

#include <algorithm>

#include "moe/parallel.h"
#include "moe/semantics.h"
#include "ops/grouped_gemm/activation.h"
#include "ops/quantize/quantize.h"

namespace switchyard::moe {
namespace {

using grouped_gemm::CpuGemm;
using grouped_gemm::FixedPanel;
using grouped_gemm::padded_columns;
using grouped_gemm::Precision;

InputPlan plan_input(const MoeConfig& config, const ExpertMatrix& matrix,
                     grouped_gemm::Choice choice) {
  InputPlan plan;
  plan.format = input_format(config.act, matrix);
  const bool full = plan.format == ActivationFormat::f32;
  plan.gemm = CpuGemm(matrix, full ? Precision::f32 : Precision::bf16, choice);
  plan.factor = matrix.input_factor.as<float>();
  plan.factor_per_expert = matrix.input_factor && matrix.input_factor.shape()[0] > 1;
  plan.bias = matrix.bias.as<float>();
  plan.input_scale = static_input_scale(plan.format, matrix);
  return plan;
}

OperandSlices plan_operand(const CpuGemm& gemm, std::int64_t rows, Arena& arena) {
  const std::int64_t elements = rows * padded_columns(gemm.in());
  OperandSlices slices{.f32 = arena.take<float>(elements), .fixed = {}};
  if (gemm.may_use_fixed()) {
    slices.fixed = arena.take<FixedPanel>(rows * grouped_gemm::panels(gemm.in()));
  }
  return slices;
}

Step gemm_step(std::string_view name, const CpuGemm& gemm, const ExpertMatrix& matrix,
               std::int64_t rows, Slice out) {
  const std::int64_t active = std::min(matrix.experts(), rows);
  return {.op = "grouped_gemm",
          .variant = fmt::format("{} {} [{}, {}, {}]: {}", name, to_string(matrix.format),
                                 matrix.experts(), matrix.out(), matrix.in(), gemm.variant()),
          .bytes = matrix.bytes() / std::max<std::int64_t>(matrix.experts(), 1) * active +
                   rows * (matrix.in() + matrix.out()) * 4,
          .flops = 2 * rows * matrix.out() * matrix.in(),
          .out = out};
}

struct Operand {
  float* f32;
  std::int64_t stride;
  FixedPanel* fixed;
  std::int64_t panels;

  Operand(const InputPlan& plan, std::span<std::byte> workspace)
      : f32(plan.operand.f32.in<float>(workspace)),
        stride(padded_columns(plan.gemm.in())),
        fixed(plan.operand.fixed.in<FixedPanel>(workspace)),
        panels(grouped_gemm::panels(plan.gemm.in())) {}

  /// Row `row` of f32 is final: rounds it and makes the other form.
  void finish(const InputPlan& plan, std::int64_t row) const {
    float* x = f32 + row * stride;
    const std::int64_t in = plan.gemm.in();
    ops::round_activations(
        {.format = plan.format, .rows = 1, .cols = in, .input_scale = plan.input_scale}, x, x,
        "moe.run");
    grouped_gemm::pad_row(x, in);
    if (plan.gemm.may_use_fixed()) grouped_gemm::to_fixed(x, in, fixed + row * panels);
  }
};

const float* factor_of(const InputPlan& plan, std::int64_t expert) {
  if (plan.factor == nullptr) return nullptr;
  return plan.factor + (plan.factor_per_expert ? expert * plan.gemm.in() : 0);
}

/// What a row is: its expert, its token and its router weight.
struct Row {
  std::int64_t expert = 0, token = 0;
  float weight = 1;
};

Row describe(const ExpertsInput& input, std::int64_t row) {
  const Groups* groups = input.groups;
  if (groups == nullptr) return {.expert = 0, .token = row, .weight = 1};
  return {.expert = expert_of_row(*groups, row),
          .token = groups->token_of_row[row],
          .weight = input.router_weights[groups->slot_of_row[row]]};
}

void make_input(const ExpertsPlan& plan, const ExpertsInput& input, std::int64_t row,
                const Operand& to) {
  const std::int64_t in = plan.gate_up.gemm.in();
  const Row what = plan.input_per_row ? describe(input, row) : Row{.token = row};
  const float* from = input.v + what.token * input.v_stride;
  const float* factor = factor_of(plan.gate_up, what.expert);
  const float weight = plan.weight_on_input ? what.weight : 1.0F;
  float* x = to.f32 + row * to.stride;
  for (std::int64_t i = 0; i < in; ++i) x[i] = from[i] * weight * (factor ? factor[i] : 1.0F);
  to.finish(plan.gate_up, row);
}

void activate_row(const ExpertsPlan& plan, const ExpertsInput& input, std::int64_t row,
                  const float* gate_up, const Operand& to) {
  const std::int64_t in = plan.down.gemm.in(), out = plan.gate_up.gemm.out();
  const Row what = describe(input, row);
  const float* y = gate_up + row * out;
  const float* bias = plan.gate_up.bias ? plan.gate_up.bias + what.expert * out : nullptr;
  const std::int64_t up = plan.activation.gated() ? in : 0;
  float* x = to.f32 + row * to.stride;
  for (std::int64_t i = 0; i < in; ++i) {
    x[i] = grouped_gemm::activate(plan.activation, y[i] + (bias ? bias[i] : 0.0F),
                                  y[up + i] + (bias ? bias[up + i] : 0.0F));
  }
  if (const float* factor = factor_of(plan.down, what.expert)) {
    for (std::int64_t i = 0; i < in; ++i) x[i] *= factor[i];
  }
  if (plan.fused_alpha) {
    const float alpha = what.weight * plan.alpha_factor[static_cast<std::size_t>(what.expert)];
    for (std::int64_t i = 0; i < in; ++i) x[i] *= alpha;
  }
  to.finish(plan.down, row);
}

void multiply(const CpuGemm& gemm, const Operand& x, const std::int32_t* index,
              const ExpertsInput& input, float* y, ThreadPool& pool) {
  const std::int64_t tasks = gemm.tasks();
  const Groups* groups = input.groups;
  const std::int64_t count = groups ? groups->active_count : 1;
  pool.parallel_for(count * tasks, [&](std::int64_t task, int) {
    std::int64_t expert = 0, first = 0, rows = input.tokens;
    if (groups) {
      expert = groups->active[task / tasks];
      first = groups->offsets[expert];
      rows = groups->offsets[expert + 1] - first;
    }
    // With an index the operand is by token, without one it is by row.
    const std::int64_t base = index ? 0 : first;
    gemm.run(expert, task % tasks,
             {.f32 = {x.f32 + base * x.stride, x.stride},
              .fixed = {x.fixed + base * x.panels, x.panels},
              .index = index ? index + first : nullptr},
             rows, y + first * gemm.out());
  });
}

}  // namespace

ExpertsPlan plan_experts(const MoeConfig& config, const ExpertWeights& experts, std::int64_t tokens,
                         std::int64_t rows, grouped_gemm::Choice choice, std::string_view name,
                         Arena& arena, std::vector<Step>& steps) {
  ExpertsPlan plan;
  plan.activation = config.activation;
  plan.weight_on_input = config.router_weight_on_input;
  plan.fused_alpha = config.fused_alpha;
  plan.gate_up = plan_input(config, experts.gate_up, choice);
  plan.down = plan_input(config, experts.down, choice);
  plan.input_per_row = plan.weight_on_input || plan.gate_up.factor_per_expert;
  if (plan.fused_alpha) {
    for (std::int64_t e = 0; e < experts.down.experts(); ++e)
      plan.alpha_factor.push_back(static_cast<float>(fused_alpha_factor(experts.down, e)));
  }
  const std::int64_t inputs = plan.input_per_row ? rows : tokens;
  plan.gate_up.operand = plan_operand(plan.gate_up.gemm, inputs, arena);
  plan.gate_up_out = arena.take<float>(rows * plan.gate_up.gemm.out());
  plan.down.operand = plan_operand(plan.down.gemm, rows, arena);
  plan.out = arena.take<float>(rows * plan.down.gemm.out());

  const std::int64_t in = plan.gate_up.gemm.in(), mid = plan.down.gemm.in();
  steps.push_back(
      {.op = "quantize",
       .variant = fmt::format("{} input to {}, {}", name, switchyard::name(plan.gate_up.format),
                              plan.input_per_row ? "row by row" : "token by token"),
       .bytes = inputs * in * 8,
       .flops = 0,
       .out = plan.gate_up.operand.f32});
  steps.push_back(gemm_step(fmt::format("{} gate_up", name), plan.gate_up.gemm, experts.gate_up,
                            rows, plan.gate_up_out));
  steps.push_back(
      {.op = "activation",
       .variant = fmt::format("{} {}, to {}", name, switchyard::name(plan.activation.kind),
                              switchyard::name(plan.down.format)),
       .bytes = rows * (plan.gate_up.gemm.out() + mid) * 4,
       .flops = 0,
       .out = plan.down.operand.f32});
  steps.push_back(
      gemm_step(fmt::format("{} down", name), plan.down.gemm, experts.down, rows, plan.out));
  return plan;
}

void run_experts(const ExpertsPlan& plan, const ExpertsInput& input, ThreadPool& pool,
                 std::span<std::byte> workspace) {
  const std::int64_t rows = input.groups ? input.groups->rows : input.tokens;
  if (rows == 0) return;
  const Operand a(plan.gate_up, workspace), h(plan.down, workspace);
  float* gate_up = plan.gate_up_out.in<float>(workspace);

  for_each(pool, plan.input_per_row ? rows : input.tokens, plan.gate_up.gemm.in(),
           [&](std::int64_t row) { make_input(plan, input, row, a); });
  const std::int32_t* index =
      input.groups && !plan.input_per_row ? input.groups->token_of_row : nullptr;
  multiply(plan.gate_up.gemm, a, index, input, gate_up, pool);
  for_each(pool, rows, 8 * plan.down.gemm.in(),
           [&](std::int64_t row) { activate_row(plan, input, row, gate_up, h); });
  multiply(plan.down.gemm, h, nullptr, input, plan.out.in<float>(workspace), pool);
}

}  // namespace switchyard::moe
