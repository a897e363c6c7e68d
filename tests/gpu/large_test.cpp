// Layers and batches whose offsets do not fit in 32 bits; skipped where there is no GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/thread_pool.h"
#include "formats/convert.h"
#include "tests/gpu/support.h"

namespace switchyard::moe {
namespace {

std::uint16_t bf16(float value) {
  std::uint16_t bits = 0;
  formats::store_run(DType::bf16, &bits, 0, 1, &value);
  return bits;
}

// More than 2^31 elements an expert and 2^32 a matrix. Weights are diagonals, repeated, of powers
// of two, and so are tokens and router weights: every value has few bits and the output is exact.
TEST(LargeExpertsGpuTest, VeryLargeExperts) {
  NEEDS_GPU();
  constexpr std::int64_t kExperts = 2, kTokens = 10, kHidden = 31 * 1024, kInner = 68 * 1024;
  const auto up = [](std::int64_t i) { return i % 2 == 0 ? 1.0F : 2.0F; };
  const auto down = [](std::int64_t e, std::int64_t i) {
    return std::exp2(static_cast<float>((i / kHidden + i + e) % 3 - 1));
  };
  const auto token = [](std::int64_t t, std::int64_t h) {
    return (h % 5 == 0 ? -1.0F : 1.0F) * std::exp2(static_cast<float>((t + h) % 3 - 1));
  };
  MoeProblem problem = parse_problem("moe t10 h31744 i69632 e2 k2 bf16 relu2 softmax_renormalize");
  MoeWeights weights;
  weights.experts.gate_up.elements = Tensor::zeros(DType::bf16, {kExperts, kInner, kHidden});
  weights.experts.down.elements = Tensor::zeros(DType::bf16, {kExperts, kHidden, kInner});
  for (std::int64_t e = 0; e < kExperts; ++e)
    for (std::int64_t i = 0; i < kInner; ++i) {
      const std::int64_t h = i % kHidden;
      weights.experts.gate_up.elements.as<std::uint16_t>()[(e * kInner + i) * kHidden + h] =
          bf16(up(i));
      weights.experts.down.elements.as<std::uint16_t>()[(e * kHidden + h) * kInner + i] =
          bf16(down(e, i));
    }
  const GpuLayer layer(problem.config, weights, 0);
  weights = {};

  Tensor tokens(DType::bf16, {kTokens, kHidden}), out(DType::bf16, {kTokens, kHidden});
  for (std::int64_t t = 0; t < kTokens; ++t)
    for (std::int64_t h = 0; h < kHidden; ++h)
      tokens.as<std::uint16_t>()[t * kHidden + h] = bf16(token(t, h));
  const Tensor logits = Tensor::zeros(DType::f32, {kTokens, kExperts});  // half of each expert
  MoeBuffers buffers;
  buffers.tokens = std::as_const(tokens).view();
  buffers.router_logits = logits.view();
  buffers.out = out.view();
  // The small kernel, and the large one by a plan for more tokens.
  for (const int max_tokens : {10, 200}) {
    SCOPED_TRACE(max_tokens);
    GpuPlan plan = make_gpu_plan(layer.shape(), max_tokens, layer.context().info());
    load(plan, layer);
    std::fill_n(out.as<std::uint16_t>(), kTokens * kHidden, std::uint16_t{0xffff});
    run_gpu_from_host(layer, plan, buffers);
    std::int64_t wrong = 0;
    for (std::int64_t t = 0; t < kTokens; ++t)
      for (std::int64_t h = 0; h < kHidden; ++h) {
        float expected = 0;
        for (std::int64_t e = 0; e < kExperts; ++e)
          for (std::int64_t i = h; i < kInner; i += kHidden) {
            const float inner = std::max(0.0F, up(i) * token(t, h));
            expected += 0.5F * down(e, i) * inner * inner;
          }
        wrong += out.as<std::uint16_t>()[t * kHidden + h] != bf16(expected);
      }
    EXPECT_EQ(wrong, 0);
  }
}

// Tokens whose bytes and elements lie beyond 2^32: all on one expert but for the first 100. Tokens
// repeat with a period that no power of two is a multiple of, so that a wrapped offset shows.
TEST(LargeBatchGpuTest, VeryLongSequence) {
  NEEDS_GPU();
  constexpr std::int64_t kTokens = 2 * 1024 * 1024 + 101, kHidden = 2048, kExperts = 4;
  constexpr std::int64_t kPeriod = 61, kSpread = 100;
  const auto expert = [](std::int64_t t) { return t < kSpread ? t % kExperts : 0; };
  const auto write_logits = [&](float* logits, std::int64_t count) {
    std::fill_n(logits, count * kExperts, 0.0F);
    for (std::int64_t t = 0; t < count; ++t) logits[t * kExperts + expert(t)] = 10;
  };
  // The first 161 tokens are all there is to know.
  const GpuCase c("moe t161 h2048 i256 e4 k1 bf16 swiglu softmax_renormalize", [&](MoeCase& made) {
    auto* tokens = made.tokens.as<std::uint16_t>();
    for (std::int64_t t = kPeriod; t < 161; ++t)
      std::copy_n(tokens + (t - kPeriod) * kHidden, kHidden, tokens + t * kHidden);
    write_logits(made.router_logits.as<float>(), 161);
  });
  const Planned p(c, static_cast<int>(kTokens));
  const cuda::Context& context = p.layer.context();
  const cuda::Current current(context);
  const cuda::Stream stream(context);
  constexpr std::size_t kRow = kHidden * 2, kBytes = kTokens * kRow;
  const cuda::DeviceBuffer tokens(context, kBytes), out(context, kBytes),
      logits(context, kTokens * kExperts * 4), workspace(context, p.plan.workspace_bytes);
  cuda::copy_to_device(tokens.data(), c.made.tokens.data(), kPeriod * kRow, stream.get());
  for (std::size_t done = kPeriod * kRow; done < kBytes; done *= 2)
    cuda::copy_on_device(tokens.data() + done, tokens.data(), std::min(done, kBytes - done),
                         stream.get());
  std::vector<float> host_logits(kTokens * kExperts);
  write_logits(host_logits.data(), kTokens);
  cuda::copy_to_device(logits.data(), host_logits.data(), host_logits.size() * 4, stream.get());
  cuda::fill(out.data(), 0xff, kBytes, stream.get());
  cuda::fill(workspace.data(), 0xd5, workspace.bytes(), stream.get());
  MoeBuffers b;
  b.tokens = {tokens.data(), DType::bf16, {kTokens, kHidden}};
  b.router_logits = {logits.data(), DType::f32, {kTokens, kExperts}};
  b.out = {out.data(), DType::bf16, {kTokens, kHidden}};
  b.workspace = {workspace.data(), workspace.bytes()};
  run_gpu(p.layer, p.plan, b, stream.get());
  stream.synchronize();

  // Windows at the start, around 2^32 bytes, and around 2^32 elements up to the end.
  for (const std::int64_t first : {std::int64_t{0}, (std::int64_t{1} << 20) - 60, kTokens - 161}) {
    SCOPED_TRACE(first);
    Tensor window(DType::bf16, {161, kHidden});
    cuda::copy_to_host(window.data(), out.data() + static_cast<std::size_t>(first) * kRow,
                       161 * kRow, stream.get());
    stream.synchronize();
    Reference exact = c.exact, honest = c.honest;
    for (std::int64_t i = 0; i < 161; ++i) {
      const std::int64_t t = first + i, like = t < 161 ? t : kSpread + (t - kSpread) % kPeriod;
      for (auto [to, from] : {std::pair{&exact, &c.exact}, {&honest, &c.honest}})
        std::copy_n(from->out.begin() + like * kHidden, kHidden, to->out.begin() + i * kHidden);
    }
    expect_close(window, exact, honest);
  }
}

}  // namespace
}  // namespace switchyard::moe
