#include "cli/bench/batch.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <set>
#include <span>

#include "formats/convert.h"
#include "moe/closeness.h"
#include "moe/plan.h"
#include "moe/reference.h"

namespace switchyard::cli::bench {
namespace {

constexpr int kRoutings = 8;

}  // namespace

Batch::Batch(const Machine& machine, const MoeState& layer, const MoeWeights& weights,
             const MoeProblem& problem, moe::Values& values)
    : machine_(machine), layer_(layer), weights_(weights), problem_(problem) {
  tokens_ = values.tensor({problem.tokens, problem.config.hidden}, 1);
  device_tokens_ = upload(tokens_);
  out_ = cuda::DeviceBuffer(machine.context, static_cast<std::size_t>(tokens_.bytes()));
  for (int i = 0; i < kRoutings; ++i) {
    logits_.push_back(moe::random_logits(problem, i, values));
    device_logits_.push_back(upload(logits_.back()));
    const moe::Routed routed =
        moe::reference_route(problem.config, weights, host_inputs(i), moe::Rounding::exact);
    const std::set<std::int32_t> experts(routed.ids.begin(), routed.ids.end());
    active_ += static_cast<double>(experts.size()) / kRoutings;
  }
  const std::int64_t last = problem.tokens - 1;
  for (const std::int64_t token : std::set<std::int64_t>{0, last / 3, last})
    compared_.push_back(token);
}

nlohmann::json Batch::measure(const moe::GpuExperts& experts, int samples, Compare compare) {
  const PlanState plan = this->plan(experts);
  const cuda::DeviceBuffer workspace(machine_.context, plan.workspace_bytes);
  const std::vector<Half> out = run(plan, workspace, 0xd5);
  nlohmann::json row;
  row["variant"] = to_string(experts);
  row["repeatable"] = run(plan, workspace, 0x2a) == out;
  if (compare == Compare::with_definition) row["error_ratio"] = error_ratio(out);
  const std::vector<double> us = graph_us(plan, workspace, samples);
  row["median_us"] = us[us.size() / 2];
  row["p10_us"] = us[us.size() / 10], row["p90_us"] = us[us.size() - 1 - us.size() / 10];
  row["samples"] = samples;
  row["host_us"] = host_us(plan, workspace);
  row["workspace_bytes"] = plan.workspace_bytes;
  return row;
}

std::vector<nlohmann::json> Batch::measure_ops(const moe::GpuExperts& experts, int samples) {
  const PlanState plan = this->plan(experts);
  const cuda::DeviceBuffer workspace(machine_.context, plan.workspace_bytes);
  std::vector<nlohmann::json> rows;
  double before = 0;
  for (const moe::Step& step : plan.steps) {
    const int launches = static_cast<int>(rows.size()) + 1;
    const std::vector<double> us = graph_us(plan, workspace, samples, launches);
    const double until = us[us.size() / 2];
    rows.push_back({{"op", step.op},
                    {"variant", step.variant},
                    {"bytes", step.bytes},
                    {"flops", step.flops},
                    {"median_us", until - before},
                    {"until_us", until},
                    {"samples", samples}});
    before = until;
  }
  return rows;
}

cuda::DeviceBuffer Batch::upload(const Tensor& t) const {
  cuda::DeviceBuffer b(machine_.context, static_cast<std::size_t>(t.bytes()));
  cuda::copy_to_device(b.data(), t.data(), b.bytes(), machine_.stream.get());
  machine_.stream.synchronize();
  return b;
}

MoeBuffers Batch::buffers(const cuda::DeviceBuffer& workspace, int routing) const {
  MoeBuffers b;
  b.tokens = {device_tokens_.data(), DType::bf16, tokens_.shape()};
  b.router_logits = {device_logits_[static_cast<std::size_t>(routing)].data(), DType::f32,
                     logits_[0].shape()};
  b.out = {out_.data(), DType::bf16, tokens_.shape()};
  b.workspace = {workspace.data(), workspace.bytes()};
  return b;
}

MoeBuffers Batch::host_inputs(int routing) const {
  MoeBuffers b;
  b.tokens = tokens_.view();
  b.router_logits = logits_[static_cast<std::size_t>(routing)].view();
  b.out.dtype = DType::bf16;
  return b;
}

PlanState Batch::plan(const moe::GpuExperts& experts) const {
  moe::GpuPlan plan =
      moe::make_gpu_plan(layer_.gpu->shape(), problem_.tokens, machine_.context.info(), experts);
  load(plan, *layer_.gpu);
  return moe::plan_state(std::move(plan), problem_.tokens);
}

/// What MoePlan::enqueue does.
void Batch::enqueue(const PlanState& plan, const cuda::DeviceBuffer& workspace, int routing,
                    int launches) const {
  const MoeBuffers b = buffers(workspace, routing);
  moe::check_arguments(layer_, plan, b, moe::Memory::device);
  moe::run_gpu(*layer_.gpu, *plan.gpu, b, machine_.stream.get(), launches);
}

std::vector<Batch::Half> Batch::run(const PlanState& plan, const cuda::DeviceBuffer& workspace,
                                    unsigned char poison) const {
  std::vector<Half> host(static_cast<std::size_t>(tokens_.shape().elements()));
  for (const cuda::DeviceBuffer* b : {&workspace, &out_})
    cuda::fill(b->data(), poison, b->bytes(), machine_.stream.get());
  enqueue(plan, workspace, 0);
  cuda::copy_to_host(host.data(), out_.data(), host.size() * sizeof(Half), machine_.stream.get());
  machine_.stream.synchronize();
  return host;
}

std::vector<double> Batch::graph_us(const PlanState& plan, const cuda::DeviceBuffer& workspace,
                                    int samples, int launches) const {
  const cuda::CUstream stream = machine_.stream.get();
  const cuda::Graph graph = cuda::Graph::capture(machine_.context, stream, [&] {
    for (int i = 0; i < kRoutings; ++i) enqueue(plan, workspace, i, launches);
  });
  std::vector<double> us;
  for (int i = 0; i < samples + 2; ++i) {
    const double t = machine_.timer.replay_us(graph, stream) / kRoutings;
    if (i >= 2) us.push_back(t);
  }
  std::sort(us.begin(), us.end());
  return us;
}

/// Until the call returns, while the queue of the stream has room.
double Batch::host_us(const PlanState& plan, const cuda::DeviceBuffer& workspace) const {
  constexpr std::size_t kCalls = 200, kQueued = 20;
  std::vector<double> us;
  while (us.size() < kCalls) {
    if (us.size() % kQueued == 0) machine_.stream.synchronize();
    const auto start = std::chrono::steady_clock::now();
    enqueue(plan, workspace, static_cast<int>(us.size() % kRoutings));
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    us.push_back(took.count());
  }
  machine_.stream.synchronize();
  std::nth_element(us.begin(), us.begin() + kCalls / 2, us.end());
  return us[kCalls / 2];
}

/// What the definition says of the compared tokens, each by a thread of its own.
void Batch::define() {
  const MoeBuffers inputs = host_inputs(0);
  const auto output = [&](std::int64_t token, moe::Rounding rounding) {
    const moe::Routed routed = moe::reference_route(problem_.config, weights_, inputs, rounding);
    return moe::reference_experts(problem_.config, weights_, inputs, routed, rounding,
                                  std::span(&token, 1));
  };
  for (const auto rounding : {moe::Rounding::exact, moe::Rounding::honest}) {
    std::vector<std::future<std::vector<double>>> rows;
    for (const std::int64_t token : compared_)
      rows.push_back(std::async(std::launch::async, output, token, rounding));
    std::vector<double>& all = rounding == moe::Rounding::exact ? exact_ : honest_;
    for (auto& row : rows) {
      const std::vector<double> one = row.get();
      all.insert(all.end(), one.begin(), one.end());
    }
  }
}

double Batch::error_ratio(const std::vector<Half>& out) {
  if (exact_.empty()) define();
  std::vector<double> rows(exact_.size());
  const std::int64_t width = problem_.config.hidden;
  for (std::size_t i = 0; i < compared_.size(); ++i)
    formats::load_run(DType::bf16, out.data(), compared_[i] * width, width,
                      &rows[i * static_cast<std::size_t>(width)]);
  const moe::Closeness close = moe::compare(rows, honest_, exact_, compared_.size(), 0x1p-9);
  return close.finite_match ? close.worst_ratio : 1e9;
}

}  // namespace switchyard::cli::bench
