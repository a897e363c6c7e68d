// Whole layers on a GPU against the definition, every variant forced; skipped where there is none.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>

#include "base/thread_pool.h"
#include "cuda/driver.h"
#include "formats/convert.h"
#include "jit/nvrtc.h"
#include "moe/closeness.h"
#include "moe/gpu_plan.h"
#include "moe/reference.h"
#include "switchyard/error.h"
#include "switchyard/problem.h"
#include "tests/support/allocations.h"

namespace switchyard::moe {
namespace {

std::optional<std::string> gpu_is_missing() {
  if (auto reason = cuda::driver_declines()) return reason;
  if (jit::nvrtc().declines) return jit::nvrtc().declines;
  const cuda::DeviceInfo info = cuda::Context::open(0).info();
  if (info.sm / 10 != 9) return "needs sm_90, the device is " + to_string(info);
  return std::nullopt;
}

#define NEEDS_GPU() \
  if (const auto reason = gpu_is_missing()) GTEST_SKIP() << *reason

/// A case with its definition, and one plan's run of it.
struct Case {
  MoeProblem problem;
  MoeCase made;
  MoeBuffers inputs;
  Reference exact, honest;

  explicit Case(std::string_view line, std::uint64_t seed = 7)
      : problem(parse_problem(line)), made(make_case(problem, seed)) {
    inputs.tokens = made.tokens.view();
    if (made.config.act == ActivationFormat::fp16) to_fp16();
    inputs.router_logits = made.router_logits.view();
    inputs.input_ids = made.input_ids.view();
    inputs.out.dtype = inputs.tokens.dtype;
    exact = reference(made.config, made.weights, inputs, Rounding::exact);
    honest = reference(made.config, made.weights, inputs, Rounding::honest);
  }

  void to_fp16() {
    Tensor converted(DType::f16, made.tokens.shape());
    std::vector<float> values(static_cast<std::size_t>(converted.shape().elements()));
    const auto count = static_cast<std::int64_t>(values.size());
    formats::load_run(DType::bf16, made.tokens.data(), 0, count, values.data());
    formats::store_run(DType::f16, converted.data(), 0, count, values.data());
    made.tokens = std::move(converted);
    inputs.tokens = made.tokens.view();
  }

  struct Result {
    Tensor out, ids;
    MoeCounters counters;
  };
  Result run(const GpuLayer& layer, const GpuPlan& plan) const {
    Result r{Tensor(inputs.tokens.dtype, made.tokens.shape()),
             Tensor(DType::i32, {problem.tokens, problem.config.top_k}),
             {}};
    MoeBuffers b = inputs;
    b.out = r.out.view();
    b.chosen_ids = r.ids.view();
    r.counters = run_gpu_from_host(layer, plan, b);
    return r;
  }

  void expect_right(const Result& r) const {
    EXPECT_TRUE(
        std::equal(exact.routed.ids.begin(), exact.routed.ids.end(), r.ids.as<std::int32_t>()));
    std::vector<double> out(static_cast<std::size_t>(r.out.shape().elements()));
    formats::load_run(r.out.dtype(), r.out.data(), 0, static_cast<std::int64_t>(out.size()),
                      out.data());
    const double roundoff = r.out.dtype() == DType::f16 ? 0x1p-12 : 0x1p-9;
    const Closeness close =
        compare(out, honest.out, exact.out, static_cast<std::size_t>(problem.tokens), roundoff);
    EXPECT_TRUE(close.finite_match);
    EXPECT_LT(close.zeros, 0.5);
    EXPECT_LE(close.worst_ratio, 2.0) << "at element " << close.worst;
  }
};

bool same(const Tensor& a, const Tensor& b) {
  return std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.bytes())) == 0;
}

class LayerGpuTest : public ::testing::TestWithParam<const char*> {};

TEST_P(LayerGpuTest, EveryVariantMatchesTheDefinitionTwice) {
  NEEDS_GPU();
  const Case c(GetParam());
  const GpuLayer layer(c.made.config, c.made.weights, 0);
  std::vector<std::string> declined;
  const auto all =
      gpu_candidates(layer.shape(), c.problem.tokens, layer.context().info(), declined);
  ASSERT_FALSE(all.empty());
  for (const GpuExperts& experts : all) {
    SCOPED_TRACE(to_string(experts));
    GpuPlan plan = make_gpu_plan(layer.shape(), c.problem.tokens, layer.context().info(), experts);
    load(plan, layer);
    const Case::Result first = c.run(layer, plan), second = c.run(layer, plan);
    c.expect_right(first);
    EXPECT_TRUE(same(first.out, second.out));
  }
}

// One token; tails of H and I; every number of columns; one expert takes all; many experts; bias;
// shared experts of all sizes; more tokens than one launch routes; batches that the experts' kernel
// routes itself, by every kind of rule.
INSTANTIATE_TEST_SUITE_P(
    Shapes, LayerGpuTest,
    ::testing::Values(
        "moe t1 h64 i64 e4 k1 bf16 swiglu softmax_renormalize",
        "moe t1 h512 i256 e64 k8 bf16 swiglu deepseek_v3 groups=8 topk_groups=4 scaling=2.5",
        "moe t8 h200 i88 e12 k3 bf16 swiglu softmax_renormalize",
        "moe t9 h136 i232 e16 k4 bf16 swiglu_oai topk_softmax bias",
        "moe t17 h256 i128 e128 k8 bf16 geglu_tanh softmax_renormalize",
        "moe t33 h384 i176 e40 k6 bf16 situ sigmoid_bias",
        "moe t64 h128 i64 e8 k2 bf16 swiglu_clamp sqrt_softplus_bias routing_load=hot",
        "moe t100 h256 i192 e96 k5 bf16 swiglu softmax",
        "moe t128 h512 i64 e8 k8 bf16 swiglu sigmoid_renormalize",
        "moe t128 h2880 i96 e32 k4 bf16 swiglu_oai topk_softmax bias routing_load=zipf",
        "moe t16 h256 i96 e16 k2 fp16 act=fp16 swiglu softmax_renormalize",
        "moe t40 h192 i80 e16 k2 bf16 relu2 sigmoid_bias",
        "moe t20 h192 i64 e16 k1 bf16 swiglu llama4 on_input=1",
        "moe t12 h128 i64 e16 k4 bf16 swiglu softmax_renormalize shared=64",
        "moe t50 h128 i64 e16 k4 bf16 swiglu softmax_renormalize shared=160 shared_gate",
        "moe t24 h128 i64 e64 k6 bf16 swiglu deepseek_v2 groups=8 topk_groups=3",
        "moe t30 h128 i64 e16 k4 bf16 swiglu hash",
        "moe t30 h128 i64 e16 k4 bf16 swiglu softmax_renormalize ep=1/2",
        "moe t300 h192 i96 e16 k4 bf16 swiglu softmax_renormalize",
        "moe t300 h320 i160 e8 k2 bf16 swiglu_oai topk_softmax bias routing_load=hot",
        "moe t700 h256 i64 e300 k8 bf16 swiglu sigmoid_bias shared=64",
        "moe t1500 h128 i64 e8 k2 bf16 swiglu softmax_renormalize",
        "moe t2100 h256 i64 e16 k4 fp16 act=fp16 geglu topk_softmax",
        "moe t1 h128 i64 e16 k4 bf16 swiglu softmax_renormalize shared=160",
        "moe t1 h128 i64 e16 k4 bf16 swiglu softmax_renormalize ep=1/2",
        "moe t2 h128 i64 e16 k4 bf16 swiglu hash",
        "moe t3 h128 i64 e16 k4 bf16 swiglu softmax_renormalize shared=64 shared_gate",
        "moe t5 h128 i64 e16 k4 bf16 swiglu softmax_renormalize ep=1/2",
        "moe t7 h128 i64 e8 k8 bf16 swiglu softmax routing_load=hot",
        "moe t13 h256 i64 e300 k8 bf16 swiglu sigmoid_bias shared=128",
        "moe t16 h128 i64 e64 k6 bf16 swiglu deepseek_v2 groups=8 topk_groups=3",
        "moe t16 h64 i64 e1000 k22 bf16 relu2 sigmoid_bias"));

TEST(GivenIdsGpuTest, ServesFewerTokensThanPlanned) {
  NEEDS_GPU();
  for (const char* line : {"moe t5 h128 i64 e8 k3 bf16 swiglu softmax_renormalize",
                           "moe t20 h128 i64 e8 k3 bf16 swiglu softmax_renormalize",
                           "moe t400 h128 i64 e8 k3 bf16 swiglu softmax_renormalize"}) {
    SCOPED_TRACE(line);
    const Case c(line);
    const GpuLayer layer(c.made.config, c.made.weights, 0);
    GpuPlan plan = make_gpu_plan(layer.shape(), 3 * c.problem.tokens, layer.context().info());
    load(plan, layer);
    const Case::Result by_logits = c.run(layer, plan);
    c.expect_right(by_logits);

    // A slot twice, ids beyond the experts, weights that are not numbers.
    std::vector<std::int32_t> ids(c.exact.routed.ids.begin(), c.exact.routed.ids.end());
    std::vector<float> weights(c.exact.routed.weights.begin(), c.exact.routed.weights.end());
    ids[1] = ids[0];
    ids[3] = 8, ids[4] = -7, ids[5] = -1;
    weights[6] = std::numeric_limits<float>::quiet_NaN();
    MoeBuffers given = c.inputs;
    const Shape slots = {c.problem.tokens, 3};
    given.router_logits = {};
    given.expert_ids = {ids.data(), DType::i32, slots};
    given.expert_weights = {weights.data(), DType::f32, slots};
    const Reference exact = reference(c.made.config, c.made.weights, given, Rounding::exact);
    const Reference honest = reference(c.made.config, c.made.weights, given, Rounding::honest);
    Tensor out(DType::bf16, c.made.tokens.shape());
    given.out = out.view();
    const MoeCounters counters = run_gpu_from_host(layer, plan, given);
    EXPECT_EQ(counters.bad_expert_ids, 2);
    EXPECT_EQ(counters.non_finite_weights, 1);
    std::vector<double> values(exact.out.size());
    formats::load_run(DType::bf16, out.data(), 0, static_cast<std::int64_t>(values.size()),
                      values.data());
    const Closeness close =
        compare(values, honest.out, exact.out, static_cast<std::size_t>(c.problem.tokens), 0x1p-9);
    EXPECT_TRUE(close.finite_match);
    EXPECT_LE(close.worst_ratio, 2.0);
  }
}

TEST(GivenIdsGpuTest, OneTokenWithASlotTwiceAndNoneOfThisRank) {
  NEEDS_GPU();
  const Case c("moe t1 h128 i64 e8 k3 bf16 swiglu softmax_renormalize");
  const GpuLayer layer(c.made.config, c.made.weights, 0);
  GpuPlan plan = make_gpu_plan(layer.shape(), 1, layer.context().info());
  load(plan, layer);
  for (const std::array<std::int32_t, 3> ids : {std::array{5, 2, 5}, {-1, -1, -1}, {9, 7, -3}}) {
    SCOPED_TRACE(ids[0]);
    const float weights[] = {0.5F, 0.25F, 2};
    MoeBuffers given = c.inputs;
    given.router_logits = {};
    given.expert_ids = {ids.data(), DType::i32, {1, 3}};
    given.expert_weights = {weights, DType::f32, {1, 3}};
    const Reference exact = reference(c.made.config, c.made.weights, given, Rounding::exact);
    const Reference honest = reference(c.made.config, c.made.weights, given, Rounding::honest);
    Tensor out(DType::bf16, c.made.tokens.shape());
    given.out = out.view();
    const MoeCounters counters = run_gpu_from_host(layer, plan, given);
    EXPECT_EQ(counters.bad_expert_ids, ids[0] == 9 ? 2 : 0);
    std::vector<double> values(exact.out.size());
    formats::load_run(DType::bf16, out.data(), 0, static_cast<std::int64_t>(values.size()),
                      values.data());
    const Closeness close = compare(values, honest.out, exact.out, 1, 0x1p-9);
    EXPECT_TRUE(close.finite_match);
    EXPECT_LE(close.worst_ratio, 2.0);
  }
}

TEST(NaNLogitsGpuTest, AreNeverChosenAndCounted) {
  NEEDS_GPU();
  for (const char* line : {"moe t1 h128 i64 e40 k3 bf16 swiglu softmax_renormalize",
                           "moe t9 h128 i64 e40 k3 bf16 swiglu softmax",
                           "moe t50 h128 i64 e40 k3 bf16 swiglu sigmoid_bias",
                           "moe t300 h128 i64 e40 k3 bf16 swiglu topk_softmax"}) {
    SCOPED_TRACE(line);
    Case c(line);
    float* logits = c.made.router_logits.as<float>();
    logits[0] = logits[7] = logits[33] = std::numeric_limits<float>::quiet_NaN();
    c.exact = reference(c.made.config, c.made.weights, c.inputs, Rounding::exact);
    c.honest = reference(c.made.config, c.made.weights, c.inputs, Rounding::honest);
    const GpuLayer layer(c.made.config, c.made.weights, 0);
    GpuPlan plan = make_gpu_plan(layer.shape(), c.problem.tokens, layer.context().info());
    load(plan, layer);
    const Case::Result r = c.run(layer, plan);
    c.expect_right(r);
    EXPECT_EQ(r.counters.non_finite_logits, 3);
    EXPECT_EQ(r.counters.non_finite_weights, 0);
  }
}

/// Device copies of a case's arrays, for enqueue().
struct OnDevice {
  const GpuLayer& layer;
  cuda::Stream stream{layer.context()};
  cuda::DeviceBuffer tokens, logits, out, count, workspace;
  MoeBuffers buffers;

  OnDevice(const GpuLayer& l, const Case& c, const GpuPlan& plan)
      : layer(l),
        tokens(upload(c.made.tokens)),
        logits(upload(c.made.router_logits)),
        out(l.context(), static_cast<std::size_t>(c.made.tokens.bytes())),
        count(l.context(), sizeof(int)),
        workspace(l.context(), plan.workspace_bytes) {
    buffers.tokens = {tokens.data(), c.made.tokens.dtype(), c.made.tokens.shape()};
    buffers.router_logits = {logits.data(), DType::f32, c.made.router_logits.shape()};
    buffers.out = {out.data(), c.made.tokens.dtype(), c.made.tokens.shape()};
    buffers.workspace = {workspace.data(), workspace.bytes()};
    cuda::fill(workspace.data(), 0xd5, workspace.bytes(), stream.get());
    stream.synchronize();
  }
  cuda::DeviceBuffer upload(const Tensor& t) const {
    cuda::DeviceBuffer b(layer.context(), static_cast<std::size_t>(t.bytes()));
    cuda::copy_to_device(b.data(), t.data(), b.bytes(), stream.get());
    stream.synchronize();
    return b;
  }
  Tensor result(const Shape& shape) const {
    Tensor t(buffers.out.dtype, shape);
    cuda::copy_to_host(t.data(), out.data(), static_cast<std::size_t>(t.bytes()), stream.get());
    stream.synchronize();
    return t;
  }
};

TEST(GraphGpuTest, ServesFewerTokensWithTheSameBitsAndAllocatesNothing) {
  NEEDS_GPU();
  for (const char* line : {"moe t16 h128 i64 e8 k3 bf16 swiglu softmax_renormalize",
                           "moe t32 h128 i64 e8 k3 bf16 swiglu softmax_renormalize",
                           "moe t400 h128 i64 e8 k3 bf16 swiglu softmax_renormalize"}) {
    SCOPED_TRACE(line);
    const Case c(line);
    const GpuLayer layer(c.made.config, c.made.weights, 0);
    const cuda::Current current(layer.context());
    GpuPlan plan = make_gpu_plan(layer.shape(), c.problem.tokens, layer.context().info());
    load(plan, layer);
    OnDevice d(layer, c, plan);
    d.buffers.token_count = {d.count.data(), DType::i32, {1}};
    const cuda::Graph graph = cuda::Graph::capture(layer.context(), d.stream.get(), [&] {
      // The layer's first kernel may overlap what is before it; this is no kernel.
      cuda::fill(d.out.data(), 0xee, d.out.bytes(), d.stream.get());
      const std::int64_t before = switchyard::testing::allocations();
      run_gpu(layer, plan, d.buffers, d.stream.get());
      EXPECT_EQ(switchyard::testing::allocations(), before);
    });
    const Tensor whole = c.run(layer, plan).out;
    for (const int tokens : {c.problem.tokens, 1, 7, c.problem.tokens / 2, 0}) {
      SCOPED_TRACE(tokens);
      cuda::copy_to_device(d.count.data(), &tokens, sizeof tokens, d.stream.get());
      graph.launch(d.stream.get());
      const Tensor part = d.result(c.made.tokens.shape());
      const auto width = static_cast<std::size_t>(c.problem.config.hidden) * 2;
      const auto* bytes = static_cast<const unsigned char*>(part.data());
      const std::size_t written = static_cast<std::size_t>(tokens) * width;
      // Which CTAs share a sum depends on the batch: only the whole one has the same bits.
      if (tokens == c.problem.tokens) {
        EXPECT_TRUE(same(part, whole));
      }
      EXPECT_TRUE(std::all_of(bytes + written, bytes + part.bytes(),
                              [](unsigned char b) { return b == 0xee; }));
    }
  }
}

TEST(RepeatGpuTest, SameBitsInAHundredRunsBesideABusyStream) {
  NEEDS_GPU();
  for (const char* line : {"moe t1 h512 i256 e32 k4 bf16 swiglu softmax_renormalize",
                           "moe t9 h512 i256 e32 k4 bf16 swiglu softmax_renormalize",
                           "moe t24 h512 i256 e32 k4 bf16 swiglu softmax_renormalize",
                           "moe t600 h512 i256 e32 k4 bf16 swiglu softmax_renormalize"}) {
    SCOPED_TRACE(line);
    const Case c(line);
    const GpuLayer layer(c.made.config, c.made.weights, 0);
    const cuda::Current current(layer.context());
    GpuPlan plan = make_gpu_plan(layer.shape(), c.problem.tokens, layer.context().info());
    load(plan, layer);
    const OnDevice d(layer, c, plan);
    const cuda::DeviceBuffer noise(layer.context(), std::size_t{64} << 20);
    const cuda::Stream other(layer.context());
    const Tensor first = c.run(layer, plan).out;
    for (int run = 0; run < 100; ++run) {
      cuda::fill(noise.data(), static_cast<unsigned char>(run), noise.bytes(), other.get());
      run_gpu(layer, plan, d.buffers, d.stream.get());
      ASSERT_TRUE(same(d.result(c.made.tokens.shape()), first)) << run;
    }
    other.synchronize();
  }
}

}  // namespace
}  // namespace switchyard::moe
