#include "moe/gpu_sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "moe/gpu_plan.h"
#include "moe/gpu_programs.h"
#include "moe/gpu_timer.h"
#include "moe/random_layer.h"
#include "switchyard/error.h"
#include "tune/cost.h"

namespace switchyard::moe {
namespace {

constexpr int kMostLayers = 8;        // of a graph
constexpr double kSampleUs = 400;     // what a graph takes at least, if it has fewer
constexpr int kDifferentExperts = 4;  // the others are copies of these

/// A layer's weights, and inputs for batches of any size.
class SampledLayer {
 public:
  SampledLayer(MoeProblem problem, const cuda::Context& context, cuda::CUstream stream)
      : problem_(prepared(std::move(problem))),
        context_(context),
        stream_(stream),
        layer_(problem_.config, few_experts(), context.ordinal()) {
    layer_.repeat_experts(problem_.config.experts / problem_.ep_ranks);
  }

  const GpuLayer& gpu() const noexcept { return layer_; }

  /// The inputs of a batch, its experts chosen by logits of `load`; `turn` says which.
  MoeBuffers buffers(int tokens, std::string_view load, int turn) {
    const MoeConfig& c = problem_.config;
    if (tokens > capacity_) {  // graphs of larger batches are gone by now
      capacity_ = static_cast<int>(std::bit_ceil(static_cast<unsigned>(std::max(tokens, 256))));
      const Tensor values = values_.tensor({capacity_, c.hidden}, 1);
      tokens_ = upload(values);
      out_ = cuda::DeviceBuffer(context_, tokens_.bytes());
      logits_.clear();
    }
    cuda::DeviceBuffer& logits = logits_[{load, turn}];
    if (logits.bytes() == 0) {
      Tensor values = values_.runs({capacity_, c.experts});
      apply_load(values, load, c.top_k, turn);
      logits = upload(values);
    }
    MoeBuffers b;
    b.tokens = {tokens_.data(), DType::bf16, {tokens, c.hidden}};
    b.router_logits = {logits.data(), DType::f32, {tokens, c.experts}};
    b.out = {out_.data(), DType::bf16, {tokens, c.hidden}};
    return b;
  }

 private:
  static MoeProblem prepared(MoeProblem problem) {
    if (problem.config.routing.method == RoutingMethod::hash)
      throw Unsupported("[tune] hash routing: its table of input ids is the caller's.");
    std::vector<int>& map = problem.config.expert_map;
    const int locals = problem.config.experts / problem.ep_ranks;
    for (int e = 0; problem.ep_ranks > 1 && e < problem.config.experts; ++e)
      map.push_back(e < locals ? e : -1);
    return problem;
  }

  MoeWeights few_experts() {
    const int locals = problem_.config.experts / problem_.ep_ranks;
    return random_weights(problem_, std::min(locals, kDifferentExperts), values_);
  }

  cuda::DeviceBuffer upload(const Tensor& t) const {
    cuda::DeviceBuffer b(context_, static_cast<std::size_t>(t.bytes()));
    cuda::copy_to_device(b.data(), t.data(), b.bytes(), stream_);
    return b;  // pageable memory: the call has waited
  }

  const MoeProblem problem_;
  const cuda::Context& context_;
  const cuda::CUstream stream_;
  Values values_{1};
  GpuLayer layer_;
  int capacity_ = 0;  ///< tokens
  cuda::DeviceBuffer tokens_, out_;
  std::map<std::pair<std::string_view, int>, cuda::DeviceBuffer> logits_;
};

/// The candidates of one batch, as far as they were asked for.
class SampledBatch {
 public:
  SampledBatch(SampledLayer& layer, int tokens, const cuda::Context& context, cuda::CUstream stream)
      : layer_(layer), tokens_(tokens), context_(context), stream_(stream) {
    std::vector<std::string> declined;
    const GpuShape& shape = layer.gpu().shape();
    std::size_t workspace = 0;
    for (const GpuExperts& experts : gpu_candidates(shape, tokens, context.info(), declined)) {
      GpuPlan plan = make_gpu_plan(shape, tokens, context.info(), experts);
      workspace = std::max(workspace, plan.workspace_bytes);
      runs_[tactic(experts)].plan = std::move(plan);
    }
    workspace_ = cuda::DeviceBuffer(context, workspace);
  }

  double sample_us(const std::string& config, std::string_view load, const GpuTimer& timer) {
    const auto run = runs_.find(config);
    if (run == runs_.end())
      throw InvalidArgument("it is no candidate for this batch, layer and GPU");
    if (!run->second.ready) prepare(run->second, load);
    int& layers = layers_[load];
    if (layers == 0) {
      const cuda::Graph one = capture(run->second.plan, load, 1);
      timer.replay_us(one, stream_);
      layers = std::clamp(static_cast<int>(std::ceil(kSampleUs / timer.replay_us(one, stream_))), 1,
                          kMostLayers);
    }
    std::optional<cuda::Graph>& graph = run->second.graphs[load];
    if (!graph) {
      graph = capture(run->second.plan, load, layers);
      graph->launch(stream_);  // a graph's first launch brings it to the GPU
    }
    return timer.replay_us(*graph, stream_) / layers;
  }

 private:
  struct Run {
    GpuPlan plan;
    bool ready = false;
    std::map<std::string_view, std::optional<cuda::Graph>> graphs;
  };

  /// Loads kernels, and runs them once where an error says whose it is.
  void prepare(Run& run, std::string_view load) {
    moe::load(run.plan, layer_.gpu());
    enqueue(run.plan, load, 0);
    cuda::Event done(context_);
    done.record(stream_);
    done.synchronize();
    run.ready = true;
  }

  cuda::Graph capture(const GpuPlan& plan, std::string_view load, int layers) {
    for (int turn = 0; turn < layers; ++turn) layer_.buffers(tokens_, load, turn);  // not captured
    return cuda::Graph::capture(context_, stream_, [&] {
      for (int turn = 0; turn < layers; ++turn) enqueue(plan, load, turn);
    });
  }

  void enqueue(const GpuPlan& plan, std::string_view load, int turn) {
    MoeBuffers buffers = layer_.buffers(tokens_, load, turn);
    buffers.workspace = {workspace_.data(), workspace_.bytes()};
    run_gpu(layer_.gpu(), plan, buffers, stream_);
  }

  SampledLayer& layer_;
  const int tokens_;
  const cuda::Context& context_;
  const cuda::CUstream stream_;
  cuda::DeviceBuffer workspace_;  ///< all plans': one runs at a time, and expects nothing in it
  std::map<std::string, Run> runs_;
  std::map<std::string_view, int> layers_;  ///< of a graph under a load
};

class GpuSampler : public tune::Sampler {
 public:
  explicit GpuSampler(int ordinal) : context_(cuda::Context::open(ordinal)) {}

  double sample_us(const tune::Trial& trial) override {
    if (trial.problem != problem_) prepare(trial.problem);
    return batch_->sample_us(trial.config, trial.load, *timer_);
  }

 private:
  void prepare(const std::string& line) {
    problem_.clear();
    batch_.reset();
    MoeProblem problem = parse_problem(line);
    const int tokens = std::exchange(problem.tokens, 1);
    const std::string layer = to_string(problem);
    if (layer != layer_of_) {
      layer_of_.clear();
      timer_.reset();
      layer_.reset();
      layer_ = std::make_unique<SampledLayer>(std::move(problem), context_, stream_.get());
      timer_ = std::make_unique<GpuTimer>(context_, layer_->gpu().loader());
      layer_of_ = layer;
    }
    batch_ = std::make_unique<SampledBatch>(*layer_, tokens, context_, stream_.get());
    problem_ = line;
  }

  cuda::Context context_;
  cuda::Current current_{context_};
  cuda::Stream stream_{context_};
  std::string problem_, layer_of_;
  std::unique_ptr<SampledLayer> layer_;
  std::unique_ptr<GpuTimer> timer_;
  std::unique_ptr<SampledBatch> batch_;
};

}  // namespace

std::unique_ptr<tune::Sampler> gpu_sampler(int ordinal) {
  return std::make_unique<GpuSampler>(ordinal);
}

}  // namespace switchyard::moe
