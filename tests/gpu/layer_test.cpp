// Whole layers on a GPU against the definition, every variant forced; skipped where there is none.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "tests/gpu/support.h"
#include "tests/support/allocations.h"

namespace switchyard::moe {
namespace {

class LayerGpuTest : public ::testing::TestWithParam<const char*> {};

TEST_P(LayerGpuTest, EveryVariantMatchesTheDefinitionTwice) {
  NEEDS_GPU();
  const GpuCase c(GetParam());
  const GpuLayer layer(c.made.config, c.made.weights, 0);
  std::vector<std::string> declined;
  const auto all =
      gpu_candidates(layer.shape(), c.problem.tokens, layer.context().info(), declined);
  ASSERT_FALSE(all.empty());
  const auto check = [&](const GpuExperts& experts) {
    SCOPED_TRACE(to_string(experts));
    GpuPlan plan = make_gpu_plan(layer.shape(), c.problem.tokens, layer.context().info(), experts);
    load(plan, layer);
    const GpuCase::Result first = c.run(layer, plan), second = c.run(layer, plan);
    c.expect_right(first);
    EXPECT_TRUE(same(first.out, second.out));
  };
  for (GpuExperts experts : all) {
    check(experts);
    if (!experts.grouped || experts.finalizes()) continue;
    experts.grouped->spans = {.width = 1, .slots = 1};  // every span takes the last one's place
    check(experts);
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
        "moe t1 h512 i256 e32 k4 nvfp4 act=bf16 swiglu softmax_renormalize",
        "moe t9 h128 i64 e8 k2 nvfp4 act=bf16 swiglu softmax_renormalize",
        "moe t3 h2880 i96 e32 k4 mxfp4 act=bf16 swiglu_oai topk_softmax bias",
        "moe t40 h208 i176 e12 k3 nvfp4 act=bf16 geglu softmax",
        "moe t128 h192 i224 e6 k2 mxfp4 act=bf16 swiglu softmax_renormalize routing_load=hot",
        "moe t600 h320 i160 e8 k2 mxfp4 act=bf16 swiglu softmax_renormalize routing_load=zipf",
        "moe t300 h208 i96 e16 k4 nvfp4 act=bf16 swiglu_oai topk_softmax bias",
        "moe t700 h320 i176 e16 k4 nvfp4 act=bf16 relu2 sigmoid_bias",
        "moe t3 h192 i64 e16 k4 nvfp4 act=bf16 swiglu softmax_renormalize shared=160",
        "moe t50 h128 i64 e16 k4 mxfp4 act=bf16 swiglu softmax_renormalize shared=160 shared_gate",
        "moe t600 h256 i96 e32 k8 nvfp4 act=bf16 swiglu sigmoid_bias shared=96",
        "moe t1 h128 i64 e16 k4 bf16 swiglu softmax_renormalize shared=160",
        "moe t1 h128 i64 e16 k4 bf16 swiglu softmax_renormalize ep=1/2",
        "moe t2 h128 i64 e16 k4 bf16 swiglu hash",
        "moe t3 h128 i64 e16 k4 bf16 swiglu softmax_renormalize shared=64 shared_gate",
        "moe t5 h128 i64 e16 k4 bf16 swiglu softmax_renormalize ep=1/2",
        "moe t7 h128 i64 e8 k8 bf16 swiglu softmax routing_load=hot",
        "moe t13 h256 i64 e300 k8 bf16 swiglu sigmoid_bias shared=128",
        "moe t16 h128 i64 e64 k6 bf16 swiglu deepseek_v2 groups=8 topk_groups=3",
        "moe t16 h64 i64 e1000 k22 bf16 relu2 sigmoid_bias",
        "moe t40 h128 i64 e16 k4 bf16 swiglu softmax_bias"));

/// Batches that one launch serves, of the small kernel, and of the large one.
constexpr const char* kSmallAndLarge[] = {
    "moe t9 h128 i64 e8 k3 bf16 swiglu softmax_renormalize",
    "moe t24 h128 i64 e8 k3 bf16 swiglu softmax_renormalize",
    "moe t400 h128 i64 e8 k3 bf16 swiglu softmax_renormalize"};

TEST(FewerTokensGpuTest, ThanPlannedAreServed) {
  NEEDS_GPU();
  for (const char* line : kSmallAndLarge) {
    SCOPED_TRACE(line);
    const GpuCase c(line);
    const Planned p(c, 3 * c.problem.tokens);
    c.expect_right(c.run(p.layer, p.plan));
  }
}

TEST(BadInputGpuTest, IsDroppedAndCountedAndCorruptsNothing) {
  NEEDS_GPU();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const char* line : kSmallAndLarge) {
    SCOPED_TRACE(line);
    const GpuCase c(line);
    const Planned p(c);
    OnDevice d(p, c);
    // A slot twice, ids beyond the experts, weights that are not numbers; 2^30 would be a fault.
    std::vector<std::int32_t> ids = c.exact.routed.ids;
    std::vector<float> weights(c.exact.routed.weights.begin(), c.exact.routed.weights.end());
    ids[1] = ids[0];
    ids[3] = 8, ids[4] = -7, ids[5] = -1, ids[7] = 1 << 30, ids[8] = -(1 << 30);
    weights[6] = kNan, weights[10] = std::numeric_limits<float>::infinity();
    MoeBuffers given = c.inputs;
    const Shape slots = {c.problem.tokens, c.problem.config.top_k};
    given.router_logits = {};
    given.expert_ids = {ids.data(), DType::i32, slots};
    given.expert_weights = {weights.data(), DType::f32, slots};
    const Reference exact = reference(c.made.config, c.made.weights, given, Rounding::exact);
    const Reference honest = reference(c.made.config, c.made.weights, given, Rounding::honest);

    const cuda::DeviceBuffer device_ids = d.upload(ids.data(), ids.size() * 4),
                             device_weights = d.upload(weights.data(), weights.size() * 4);
    const std::int64_t none[3] = {};
    const cuda::DeviceBuffer counters = d.upload(none, sizeof none);
    d.buffers.router_logits = {};
    d.buffers.expert_ids = {device_ids.data(), DType::i32, slots};
    d.buffers.expert_weights = {device_weights.data(), DType::f32, slots};
    d.buffers.counters = {counters.data(), DType::i64, {3}};
    const Tensor out = d.run(0xd5);
    expect_close(out, exact, honest);
    d.expect_guards();
    std::int64_t counted[3] = {};
    cuda::copy_to_host(counted, counters.data(), sizeof counted, d.stream.get());
    d.stream.synchronize();
    EXPECT_EQ(counted[0], 4);
    EXPECT_EQ(counted[1], 2);
    EXPECT_EQ(counted[2], 0);
    const GpuCase::Result from_host = c.run(p.layer, p.plan, &given);
    EXPECT_TRUE(same(from_host.out, out));
    EXPECT_EQ(from_host.counters.bad_expert_ids, 4);
    EXPECT_EQ(from_host.counters.non_finite_weights, 2);
  }
}

TEST(GivenIdsGpuTest, OneTokenWithASlotTwiceAndNoneOfThisRank) {
  NEEDS_GPU();
  const GpuCase c("moe t1 h128 i64 e8 k3 bf16 swiglu softmax_renormalize");
  const Planned p(c);
  for (const std::array<std::int32_t, 3> ids : {std::array{5, 2, 5}, {-1, -1, -1}, {9, 7, -3}}) {
    SCOPED_TRACE(ids[0]);
    const float weights[] = {0.5F, 0.25F, 2};
    MoeBuffers given = c.inputs;
    given.router_logits = {};
    given.expert_ids = {ids.data(), DType::i32, {1, 3}};
    given.expert_weights = {weights, DType::f32, {1, 3}};
    const GpuCase::Result r = c.run(p.layer, p.plan, &given);
    EXPECT_EQ(r.counters.bad_expert_ids, ids[0] == 9 ? 2 : 0);
    if (ids[0] == -1) {
      const auto* out = static_cast<const std::byte*>(r.out.data());
      EXPECT_TRUE(
          std::all_of(out, out + r.out.bytes(), [](std::byte b) { return b == std::byte{}; }));
      continue;
    }
    expect_close(r.out, reference(c.made.config, c.made.weights, given, Rounding::exact),
                 reference(c.made.config, c.made.weights, given, Rounding::honest));
  }
}

TEST(BadInputGpuTest, LogitsThatAreNoNumbersRankLastAndAreCounted) {
  NEEDS_GPU();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const char* line : kSmallAndLarge) {
    SCOPED_TRACE(line);
    const GpuCase c(line, [kNan](MoeCase& made) {
      made.router_logits.as<float>()[0] = kNan;
      std::fill_n(made.router_logits.as<float>() + 8, 8, kNan);
    });
    const Planned p(c);
    const GpuCase::Result r = c.run(p.layer, p.plan);
    EXPECT_EQ(r.counters.non_finite_logits, c.exact.routed.counters.non_finite_logits);
    EXPECT_GT(r.counters.non_finite_logits, 0);
    c.expect_right(r);
  }
}

TEST(WorkspaceGpuTest, MayHoldAnything) {
  NEEDS_GPU();
  for (const char* line : kSmallAndLarge) {
    SCOPED_TRACE(line);
    const GpuCase c(line);
    const Planned p(c);
    OnDevice d(p, c);
    const Tensor first = d.run(0xd5);
    EXPECT_TRUE(same(d.run(0x2a), first));
    EXPECT_TRUE(same(d.run(0x00), first));
    EXPECT_TRUE(same(d.run(0xff), first));
    d.expect_guards();
    expect_close(first, c.exact, c.honest);
  }
}

TEST(GraphGpuTest, ServesFewerTokensWithTheSameBitsAndAllocatesNothing) {
  NEEDS_GPU();
  for (const char* line : kSmallAndLarge) {
    SCOPED_TRACE(line);
    const GpuCase c(line);
    const Planned p(c);
    const cuda::Current current(p.layer.context());
    OnDevice d(p, c);
    const cuda::DeviceBuffer count(p.layer.context(), sizeof(int));
    d.buffers.token_count = {count.data(), DType::i32, {1}};
    const cuda::Graph graph = cuda::Graph::capture(p.layer.context(), d.stream.get(), [&] {
      const std::int64_t before = switchyard::testing::allocations();
      run_gpu(p.layer, p.plan, d.buffers, d.stream.get());
      EXPECT_EQ(switchyard::testing::allocations(), before);
    });
    const Tensor whole = c.run(p.layer, p.plan).out;
    for (const int tokens : {c.problem.tokens, 1, 7, c.problem.tokens / 2, 0}) {
      SCOPED_TRACE(tokens);
      d.fill(d.out, 0xee, static_cast<std::size_t>(whole.bytes()));
      cuda::copy_to_device(count.data(), &tokens, sizeof tokens, d.stream.get());
      graph.launch(d.stream.get());
      const Tensor part = d.result();
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
    const GpuCase c(line);
    const Planned p(c);
    const cuda::Current current(p.layer.context());
    const OnDevice d(p, c);
    const cuda::DeviceBuffer noise(p.layer.context(), std::size_t{64} << 20);
    const cuda::Stream other(p.layer.context());
    const Tensor first = c.run(p.layer, p.plan).out;
    for (int run = 0; run < 100; ++run) {
      cuda::fill(noise.data(), static_cast<unsigned char>(run), noise.bytes(), other.get());
      run_gpu(p.layer, p.plan, d.buffers, d.stream.get());
      ASSERT_TRUE(same(d.result(), first)) << run;
    }
    other.synchronize();
  }
}

/// [rows, bytes] with row order[i] of `from` at i.
Tensor permuted(const Tensor& from, const std::vector<int>& order) {
  Tensor to(from.dtype(), from.shape());
  const std::size_t row = static_cast<std::size_t>(from.bytes()) / order.size();
  for (std::size_t i = 0; i < order.size(); ++i)
    std::memcpy(to.as<std::byte>() + i * row,
                from.as<std::byte>() + static_cast<std::size_t>(order[i]) * row, row);
  return to;
}

class OrderGpuTest : public ::testing::TestWithParam<const char*> {};

TEST_P(OrderGpuTest, OfTheBatchChangesNoBitOfAToken) {
  NEEDS_GPU();
  const GpuCase c(GetParam());
  const Planned p(c);
  OnDevice d(p, c);
  const Tensor as_given = d.run(0xd5);
  std::vector<int> order(static_cast<std::size_t>(c.problem.tokens));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937 random(3);
  for (int round = 0; round < 3; ++round) {
    if (round == 0)
      std::reverse(order.begin(), order.end());
    else
      std::shuffle(order.begin(), order.end(), random);
    d.set_inputs(permuted(c.made.tokens, order), permuted(c.made.router_logits, order));
    EXPECT_TRUE(same(d.run(0xd5), permuted(as_given, order))) << round;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Loads, OrderGpuTest,
    ::testing::Values("moe t8 h512 i256 e32 k4 bf16 swiglu softmax_renormalize",
                      "moe t64 h512 i256 e32 k4 bf16 swiglu softmax_renormalize",
                      "moe t128 h512 i256 e16 k4 bf16 swiglu softmax_renormalize",
                      "moe t128 h512 i256 e16 k2 bf16 swiglu softmax_renormalize routing_load=hot",
                      "moe t600 h512 i256 e32 k4 bf16 swiglu softmax_renormalize",
                      "moe t600 h512 i256 e32 k4 bf16 swiglu softmax_renormalize "
                      "routing_load=hot"));

}  // namespace
}  // namespace switchyard::moe
