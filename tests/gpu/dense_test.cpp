// The dense GEMMs on a GPU: the 384 cases of FC1 and the 180 of FC2 that a DenseGEMM must pass
// (spec 10.1, 10.2), at full size, with every tactic; and small cases for sanitizers. Against plain
// loops over the numbers that the codes mean.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/check.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "formats/bf16.cuh"
#include "formats/fp16.cuh"
#include "formats/nvfp4.cuh"
#include "formats/scale_layout.cuh"
#include "ops/dense_moe/gpu.h"
#include "ops/repack/upload.h"
#include "switchyard/dense.h"
#include "switchyard/error.h"
#include "tests/gpu/support.h"

namespace switchyard::dense_moe {
namespace {

using moe::gpu_is_missing;
using Bytes = std::vector<std::uint8_t>;

ThreadPool& pool() {
  static ThreadPool all(usable_cores());
  return all;
}

std::size_t size(std::int64_t count) {
  return static_cast<std::size_t>(count);
}

/// Integers in [-5, 5) as NVFP4 [rows, columns] with global scale 5 / 2688, as the original tests
/// have them, and the numbers e2m1 * scale. Those are integers, so that sums of products are exact.
struct Numbers {
  static constexpr float kGlobal = 5.0F / 2688;
  static constexpr float kUnit = 4;
  std::int64_t rows, columns;
  Bytes codes, scales;               // scales row-major
  std::vector<std::int16_t> values;  // in kUnit

  Numbers(std::int64_t r, std::int64_t c, std::uint64_t seed)
      : rows(r), columns(c), codes(size(r * c / 2)), scales(size(r * c / 16)), values(size(r * c)) {
    pool().parallel_for(rows, [&](std::int64_t row, int) {
      const Random random(seed, static_cast<std::uint64_t>(row));
      for (std::int64_t b = 0; b < columns / 16; ++b) quantise(random, row, b);
    });
  }
  void quantise(const Random& random, std::int64_t row, std::int64_t b) {
    float x[16], largest = 0;
    for (int i = 0; i < 16; ++i) {
      x[i] = static_cast<float>(random.below(static_cast<std::uint64_t>(b * 16 + i), 10)) - 5;
      largest = std::max(largest, std::abs(x[i]));
    }
    const formats::Nvfp4Scale scale = formats::nvfp4_scale_fast(largest, 1 / kGlobal);
    const std::int64_t first = row * columns + b * 16;
    scales[size(first / 16)] = scale.code;
    for (int i = 0; i < 16; ++i) {
      const std::uint8_t code = formats::encode_e2m1(x[i] * scale.multiplier);
      codes[size((first + i) / 2)] |= static_cast<std::uint8_t>(code << i % 2 * 4);
      const float value = formats::decode_e2m1(code) * formats::decode_e4m3(scale.code) / kUnit;
      SWITCHYARD_ASSERT(value == std::round(value) && std::abs(value) <= 672);
      values[size(first + i)] = static_cast<std::int16_t>(value);
    }
  }
  Bytes swizzled() const {
    const std::int64_t blocks = columns / 16;
    Bytes out(size(formats::bytes_128x4(rows, blocks)));
    for (std::int64_t i = 0; i < rows * blocks; ++i)
      out[size(formats::offset_128x4(i / blocks, i % blocks, blocks))] = scales[size(i)];
    return out;
  }
};

double dot(const std::int16_t* a, const std::int16_t* b, std::int64_t count) {
  SWITCHYARD_ASSERT(count <= 4096);  // times 672 * 672: no overflow
  int sum = 0;
  for (std::int64_t k = 0; k < count; ++k) sum += a[k] * b[k];
  return sum * static_cast<double>(Numbers::kUnit * Numbers::kUnit);
}

double bf16(double value) {
  return static_cast<double>(formats::decode_bf16(formats::encode_bf16(value)));
}

/// One GPU, and kernels that are compiled once for all tests.
struct Gpu {
  cuda::Context context = cuda::Context::open(0);
  cuda::Current current{context};
  cuda::Stream stream{context};
  jit::Loader loader{context, std::make_shared<jit::Cache>(jit::cache_options_from_env())};

  static Gpu& get() {
    static Gpu gpu;
    return gpu;
  }
  template <class T>
  cuda::DeviceBuffer upload(const std::vector<T>& values) const {
    cuda::DeviceBuffer b(context, values.size() * sizeof(T));
    cuda::copy_to_device(b.data(), values.data(), b.bytes(), stream.get());
    stream.synchronize();
    return b;
  }
  cuda::DeviceBuffer poisoned(std::size_t bytes, unsigned char value = 0xd5) const {
    cuda::DeviceBuffer b(context, bytes);
    cuda::fill(b.data(), value, bytes, stream.get());
    return b;
  }
  Bytes read(const cuda::DeviceBuffer& b) const {
    Bytes host(b.bytes());
    cuda::copy_to_host(host.data(), b.data(), host.size(), stream.get());
    stream.synchronize();
    return host;
  }
  /// Compiles what `tactics` need on all cores.
  void compile(const std::vector<Tactic>& tactics) {
    std::vector<jit::Program> programs;
    for (const Tactic& t : tactics) programs.push_back(program(t.config, context.info().sm));
    loader.kernels(programs, usable_cores());
  }
};

/// Weights of E experts, on the host and as tiles.
struct Experts {
  Numbers numbers;
  cuda::DeviceBuffer tiles;

  Experts(const GpuProblem& p, std::uint64_t seed = 4)
      : numbers(std::int64_t{p.experts} * p.rows(), p.width(), seed) {
    Gpu& gpu = Gpu::get();
    const repack::Matrix matrix = {
        .out = p.rows(),
        .in = p.width(),
        .order = p.phase == Phase::fc1 ? repack::RowOrder::gate_up : repack::RowOrder::plain};
    tiles = cuda::DeviceBuffer(
        gpu.context, size(repack::tile_count(matrix)) * size(p.experts) * size(Config::kTileBytes));
    repack::upload_fp4({gpu.context, gpu.stream, gpu.loader}, matrix, p.experts,
                       {.weights = Weights::nvfp4,
                        .codes = std::as_bytes(std::span(numbers.codes)),
                        .scales = std::as_bytes(std::span(numbers.scales)),
                        .shift = 0},
                       tiles.data());
  }
};

/// What a call gives: the output's bytes, and its scales' (FP4).
struct Result {
  Bytes out, scales;
  friend bool operator==(const Result&, const Result&) = default;
};

/// A case of either phase: activations, factors, and what the definition says.
struct Case {
  GpuProblem problem;
  const Experts& weights;
  Numbers x;
  std::vector<float> alpha, post;
  float norm_const = 1;
  std::vector<double> exact;    // [T, E I] or [T, H]
  std::vector<double> rounded;  // the original test's own roundings
  cuda::DeviceBuffer codes, scales, alphas, turned, posts;

  Case(const GpuProblem& p, const Experts& w)
      : problem(p), weights(w), x(p.tokens, p.phase == Phase::fc1 ? p.hidden : columns(), 5) {
    const Random random(6);
    const std::int64_t pairs = std::int64_t{p.tokens} * p.experts;
    if (p.phase == Phase::fc1) {
      const float smaller = p.out == Out::fp16 ? 0.25F : 1.0F;  // outputs beyond 65504 are infinite
      alpha.assign(size(p.experts), Numbers::kGlobal * Numbers::kGlobal * smaller);
      for (std::int64_t i = 0; p.post && i < pairs; ++i)
        post.push_back(1 + 0.2F * random.uniform(static_cast<std::uint64_t>(i)));
    } else {
      for (std::int64_t i = 0; i < pairs; ++i)
        alpha.push_back((1 + random.uniform(static_cast<std::uint64_t>(i))) * Numbers::kGlobal *
                        Numbers::kGlobal);
    }
    upload();
  }
  std::int64_t columns() const { return std::int64_t{problem.experts} * problem.intermediate; }
  std::int64_t outputs() const {
    return problem.phase == Phase::fc1 ? columns() : std::int64_t{problem.hidden};
  }
  void upload() {
    Gpu& gpu = Gpu::get();
    codes = gpu.upload(x.codes), scales = gpu.upload(x.swizzled());
    alphas = gpu.upload(alpha), posts = gpu.upload(post);
    std::vector<float> other(alpha.size());
    if (problem.phase == Phase::fc2)
      for (std::size_t i = 0; i < alpha.size(); ++i)
        other[i % size(problem.experts) * size(problem.tokens) + i / size(problem.experts)] =
            alpha[i];
    turned = gpu.upload(other);
  }

  /// In plain loops.
  void define() {
    exact.resize(size(problem.tokens * outputs()));
    rounded.resize(exact.size());
    problem.phase == Phase::fc1 ? define_fc1() : define_fc2();
  }
  void define_fc1() {
    const std::int64_t inner = problem.intermediate, k = problem.hidden;
    pool().parallel_for(columns(), [&](std::int64_t column, int) {
      const std::int64_t e = column / inner, j = column % inner;
      const std::int16_t* gate = weights.numbers.values.data() + (e * 2 * inner + j) * k;
      const auto a = static_cast<double>(alpha[size(e)]);
      for (std::int64_t t = 0; t < problem.tokens; ++t) {
        const std::int16_t* token = x.values.data() + t * k;
        const double g = a * dot(token, gate, k), u = a * dot(token, gate + inner * k, k);
        const double factor =
            problem.post ? static_cast<double>(post[size(t * problem.experts + e)]) : 1;
        const auto swiglu = [](double gate_value, double up) {
          return gate_value / (1 + std::exp(-gate_value)) * up;
        };
        exact[size(t * columns() + column)] = swiglu(g, u) * factor;
        rounded[size(t * columns() + column)] = bf16(swiglu(bf16(g), bf16(u)) * factor);
      }
    });
    double largest = 0;
    for (const double y : rounded) largest = std::max(largest, std::abs(y));
    norm_const = static_cast<float>(2688 / largest);
  }
  void define_fc2() {
    const std::int64_t inner = problem.intermediate;
    pool().parallel_for(problem.hidden, [&](std::int64_t h, int) {
      for (std::int64_t t = 0; t < problem.tokens; ++t) {
        double sum = 0, coarse = 0;
        for (std::int64_t e = 0; e < problem.experts; ++e) {
          const auto a = static_cast<double>(alpha[size(t * problem.experts + e)]);
          const double product =
              a * dot(x.values.data() + t * columns() + e * inner,
                      weights.numbers.values.data() + (e * problem.hidden + h) * inner, inner);
          sum += product;
          coarse = bf16(coarse + bf16(product));
        }
        exact[size(t * problem.hidden + h)] = sum, rounded[size(t * problem.hidden + h)] = coarse;
      }
    });
  }

  Result run(const Tactic& tactic, bool token_major = false, unsigned char poison = 0xd5,
             const std::vector<int>& listed = {}) const {
    Gpu& gpu = Gpu::get();
    const GpuGemm gemm(gpu.context, gpu.loader, problem, tactic);
    const std::int64_t bits = problem.out == Out::fp4 ? 4 : problem.out == Out::f32 ? 32 : 16;
    const cuda::DeviceBuffer scratch = gpu.poisoned(gemm.scratch_bytes(), poison);
    const cuda::DeviceBuffer out = gpu.poisoned(size(problem.tokens * outputs() * bits / 8));
    const cuda::DeviceBuffer out_scales =
        gpu.poisoned(size(formats::bytes_128x4(problem.tokens, outputs() / 16)), 0);
    const cuda::DeviceBuffer list = gpu.upload(listed);
    gemm.enqueue(
        problem.tokens,
        {.weights = weights.tiles.data(),
         .x = codes.data(),
         .x_scales = scales.data(),
         .alpha = (token_major && problem.phase == Phase::fc2 ? turned : alphas).as<float>(),
         .token_stride = token_major ? 1 : problem.experts,
         .expert_stride = token_major ? problem.tokens : 1,
         .alpha_post = problem.post ? posts.as<float>() : nullptr,
         .experts = listed.empty() ? nullptr : list.as<int>(),
         .norm_const = norm_const,
         .out = out.data(),
         .out_scales = out_scales.data()},
        scratch.data(), gpu.stream.get());
    return {gpu.read(out), problem.out == Out::fp4 ? gpu.read(out_scales) : Bytes{}};
  }

  std::vector<double> values(const Result& r) const {
    std::vector<double> y(size(problem.tokens * outputs()));
    const auto* half = reinterpret_cast<const std::uint16_t*>(r.out.data());
    for (std::size_t i = 0; i < y.size(); ++i)
      y[i] = problem.out == Out::f32    ? reinterpret_cast<const float*>(r.out.data())[i]
             : problem.out == Out::bf16 ? static_cast<double>(formats::decode_bf16(half[i]))
                                        : static_cast<double>(formats::decode_fp16(half[i]));
    return y;
  }
};

/// Shares of FP4 outputs that are one step or less from what `y` quantises to, and the same.
struct Agreement {
  double near_codes, same_codes, near_scales, same_scales;
};
Agreement agreement(const Case& c, const Result& r, const std::vector<double>& y) {
  const std::int64_t blocks = static_cast<std::int64_t>(y.size()) / 16, row = c.outputs() / 16;
  std::vector<std::int64_t> counts(size(std::int64_t{c.problem.tokens} * 4));
  pool().parallel_for(c.problem.tokens, [&](std::int64_t t, int) {
    std::int64_t* count = &counts[size(t * 4)];
    for (std::int64_t b = 0; b < row; ++b) {
      const double* from = &y[size((t * row + b) * 16)];
      float largest = 0;
      for (int i = 0; i < 16; ++i)
        largest = std::max(largest, std::abs(static_cast<float>(from[i])));
      const formats::Nvfp4Scale scale = formats::nvfp4_scale_epilogue(largest, c.norm_const);
      const int stored = r.scales[size(formats::offset_128x4(t, b, row))];
      count[2] += std::abs(stored - scale.code) <= 1, count[3] += stored == scale.code;
      for (int i = 0; i < 16; ++i) {
        const int code = formats::encode_e2m1(static_cast<float>(from[i]) * scale.multiplier);
        const int is = formats::nibble(r.out.data(), (t * row + b) * 16 + i);
        const auto step = [](int of) { return of & 8 ? -(of & 7) : of & 7; };
        count[0] += std::abs(step(code) - step(is)) <= 1, count[1] += step(code) == step(is);
      }
    }
  });
  std::int64_t sum[4] = {};
  for (std::size_t i = 0; i < counts.size(); ++i) sum[i % 4] += counts[i];
  const auto all = static_cast<double>(blocks);
  return {static_cast<double>(sum[0]) / (16 * all), static_cast<double>(sum[1]) / (16 * all),
          static_cast<double>(sum[2]) / all, static_cast<double>(sum[3]) / all};
}

/// The published thresholds, against the published reference; and ours, against the definition:
/// what differs is what f32 sums round across an edge.
void expect_fp4(const Case& c, const Result& r) {
  const Agreement published = agreement(c, r, c.rounded), own = agreement(c, r, c.exact);
  EXPECT_GT(published.near_codes, 0.95);
  EXPECT_GT(published.near_scales, 0.95);
  EXPECT_EQ(own.near_codes, 1);
  EXPECT_EQ(own.near_scales, 1);
  EXPECT_GT(own.same_codes, 0.999);
  EXPECT_GT(own.same_scales, 0.999);
}
void expect_floats(const Case& c, const Result& r) {
  const std::vector<double> y = c.values(r);
  double scale = 0, worst = 0;
  std::size_t close = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    scale = std::max(scale, std::abs(c.exact[i]));
    worst = std::isfinite(y[i]) ? std::max(worst, std::abs(y[i] - c.exact[i])) : 1e30;
    close += std::abs(y[i] - c.rounded[i]) <= 0.05 + 0.1 * std::abs(c.rounded[i]) ? 1 : 0;
  }
  EXPECT_GT(static_cast<double>(close), 0.9 * static_cast<double>(y.size()));
  // An honest run is off by half a step of the output's type.
  const double honest = scale * (c.problem.out == Out::bf16   ? 0x1p-9
                                 : c.problem.out == Out::fp16 ? 0x1p-12
                                                              : 0x1p-20);
  EXPECT_LE(worst, 2 * honest) << "of " << scale << " at most";
}
void expect_right(const Case& c, const Result& r) {
  c.problem.out == Out::fp4 ? expect_fp4(c, r) : expect_floats(c, r);
}

/// Every tactic of a case, the second and later ones of the same bits unread.
int expect_all_tactics(Case& c) {
  c.define();
  const std::vector<Tactic> all = tactics(c.problem, Gpu::get().context.info());
  EXPECT_FALSE(all.empty());
  Gpu::get().compile(all);
  std::vector<Result> seen;
  bool token_major = false;
  for (const Tactic& tactic : all) {
    SCOPED_TRACE(to_string(tactic));
    token_major = !token_major;
    const Result r = c.run(tactic, token_major);
    if (std::find(seen.begin(), seen.end(), r) != seen.end()) continue;
    expect_right(c, r);
    seen.push_back(r);
  }
  return static_cast<int>(all.size());
}

std::string described(const GpuProblem& p) {
  return fmt::format("E {} H {} I {} M {} post {}", p.experts, p.hidden, p.intermediate, p.tokens,
                     p.post);
}

/// The grids, by the number of experts.
class DenseFc1GridGpuTest : public testing::TestWithParam<int> {};
class DenseFc2GridGpuTest : public testing::TestWithParam<int> {};

TEST_P(DenseFc1GridGpuTest, Large) {
  NEEDS_GPU();
  int cases = 0, runs = 0;
  for (const int rows : {256, 512, 1024, 2816})
    for (const int width : {256, 512, 2048}) {
      GpuProblem p = {.phase = Phase::fc1,
                      .tokens = 0,
                      .experts = GetParam(),
                      .hidden = width,
                      .intermediate = rows / 2,
                      .out = Out::fp4};
      const Experts weights(p);
      for (const int tokens : {1, 8, 127, 256})
        for (const bool post : {true, false}) {
          p.tokens = tokens, p.post = post;
          SCOPED_TRACE(described(p));
          Case c(p, weights);
          runs += expect_all_tactics(c);
          ++cases;
          if (HasFailure()) return;
        }
    }
  EXPECT_EQ(cases, 384 / 4);
  std::printf("%d cases, %d with their tactics\n", cases, runs);
}
INSTANTIATE_TEST_SUITE_P(Experts, DenseFc1GridGpuTest, testing::Values(1, 4, 8, 32));

TEST_P(DenseFc2GridGpuTest, Large) {
  NEEDS_GPU();
  int cases = 0, runs = 0;
  for (const int width : {256, 512, 1024})
    for (const int rows : {256, 512, 2048}) {
      GpuProblem p = {.phase = Phase::fc2,
                      .tokens = 0,
                      .experts = GetParam(),
                      .hidden = rows,
                      .intermediate = width,
                      .out = Out::bf16};
      const Experts weights(p);
      for (const int tokens : {1, 8, 127, 256}) {
        p.tokens = tokens;
        SCOPED_TRACE(described(p));
        Case c(p, weights);
        runs += expect_all_tactics(c);
        ++cases;
        if (HasFailure()) return;
      }
    }
  EXPECT_EQ(cases, 180 / 5);
  std::printf("%d cases, %d with their tactics\n", cases, runs);
}
INSTANTIATE_TEST_SUITE_P(Experts, DenseFc2GridGpuTest, testing::Values(1, 4, 8, 32, 256));

/// Sizes that are no multiple of a tile, one token, a block and one more.
std::vector<GpuProblem> small_problems() {
  std::vector<GpuProblem> all;
  for (const Phase phase : {Phase::fc1, Phase::fc2})
    for (const int tokens : {1, 7, 33, 130})
      all.push_back({.phase = phase,
                     .tokens = tokens,
                     .experts = 4,
                     .hidden = 272,
                     .intermediate = 80,
                     .out = phase == Phase::fc1 ? Out::fp4 : Out::bf16});
  return all;
}

TEST(DenseGpuTest, EveryTacticOfSmallSizes) {
  NEEDS_GPU();
  for (const GpuProblem& p : small_problems()) {
    SCOPED_TRACE(described(p));
    const Experts weights(p);
    Case c(p, weights);
    expect_all_tactics(c);
  }
}

TEST(DenseGpuTest, EveryOutputType) {
  NEEDS_GPU();
  for (const Phase phase : {Phase::fc1, Phase::fc2})
    for (const Out out : {Out::bf16, Out::fp16, Out::f32}) {
      const GpuProblem p = {.phase = phase,
                            .tokens = 9,
                            .experts = 3,
                            .hidden = 160,
                            .intermediate = 96,
                            .out = out,
                            .post = phase == Phase::fc1};
      SCOPED_TRACE(described(p));
      const Experts weights(p);
      Case c(p, weights);
      c.define();
      expect_right(c, c.run(tactics(p, Gpu::get().context.info()).front()));
    }
}

TEST(DenseGpuTest, TheSameBitsEveryTimeAndInBothLayouts) {
  NEEDS_GPU();
  for (const GpuProblem& p : small_problems()) {
    const Experts weights(p);
    const Case c(p, weights);
    for (const Tactic& tactic : tactics(p, Gpu::get().context.info())) {
      SCOPED_TRACE(described(p) + " " + to_string(tactic));
      const Result first = c.run(tactic);
      EXPECT_TRUE(c.run(tactic, true, 0x2a) == first);
      EXPECT_TRUE(c.run(tactic, false, 0xff) == first);
    }
  }
}

/// Factors that a bf16 or a product would not bear, zeros, and experts that are not listed.
TEST(DenseGpuTest, AlphaOfAnySizeAndListedExpertsAlone) {
  NEEDS_GPU();
  const GpuProblem p = {.phase = Phase::fc2,
                        .tokens = 20,
                        .experts = 6,
                        .hidden = 144,
                        .intermediate = 64,
                        .out = Out::f32};
  const Experts weights(p);
  Case c(p, weights);
  for (std::size_t i = 0; i < c.alpha.size(); ++i) {
    const std::size_t token = i / 6, e = i % 6;
    c.alpha[i] *= token == 0   ? std::ldexp(1.0F, static_cast<int>(e) * 10 - 60)
                  : token == 1 ? (e == 2 ? -1e20F : 1.0F)
                  : token == 2 ? (e == 5 ? 1e-34F : 0.0F)
                               : (e % 2 == 0 ? 0.0F : 1.0F);
  }
  c.upload();
  c.define();
  const auto close = [&](const Result& r) {
    const std::vector<double> y = c.values(r);
    for (std::size_t t = 0; t < 20; ++t) {  // a loud token must not hide a quiet one
      double scale = 0, worst = 0;
      for (std::size_t h = t * 144; h < (t + 1) * 144; ++h) {
        scale = std::max(scale, std::abs(c.exact[h]));
        worst = std::max(worst, std::abs(y[h] - c.exact[h]));
      }
      EXPECT_LE(worst, scale * 0x1p-19) << "token " << t;
    }
  };
  for (const Tactic& tactic : tactics(p, Gpu::get().context.info())) {
    SCOPED_TRACE(to_string(tactic));
    close(c.run(tactic));
  }
  for (std::size_t i = 0; i < c.alpha.size(); ++i)
    if (i % 6 != 1 && i % 6 != 4) c.alpha[i] = 0;
  c.define();  // the device still has every alpha: experts that are not listed are not read
  for (const Tactic& tactic : tactics(p, Gpu::get().context.info())) {
    SCOPED_TRACE(to_string(tactic));
    close(c.run(tactic, false, 0xd5, {2, 1, 4}));
  }
  std::fill(c.alpha.begin(), c.alpha.end(), 0.0F);
  c.define();
  for (const Tactic& tactic : tactics(p, Gpu::get().context.info()))
    for (const double y : c.values(c.run(tactic, false, 0xd5, {0, 0}))) EXPECT_EQ(y, 0);
}

TEST(DenseGpuTest, Fc1LeavesExpertsThatAreNotListed) {
  NEEDS_GPU();
  const GpuProblem p = {.phase = Phase::fc1,
                        .tokens = 5,
                        .experts = 4,
                        .hidden = 64,
                        .intermediate = 64,
                        .out = Out::f32};
  const Experts weights(p);
  Case c(p, weights);
  c.define();
  const std::vector<double> y =
      c.values(c.run(tactics(p, Gpu::get().context.info()).front(), false, 0xd5, {2, 0, 3}));
  float untouched;
  std::memset(&untouched, 0xd5, sizeof untouched);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t e = i % 256 / 64;
    if (e == 1 || e == 2)
      EXPECT_EQ(y[i], static_cast<double>(untouched));
    else
      EXPECT_NEAR(y[i], c.exact[i], std::abs(c.exact[i]) * 1e-4 + 1e-4);
  }
}

TEST(DenseGpuTest, ThePublicGemmServesFewerTokensAndRefusesWhatDoesNotFit) {
  NEEDS_GPU();
  const GpuProblem p = {.phase = Phase::fc2,
                        .tokens = 40,
                        .experts = 3,
                        .hidden = 128,
                        .intermediate = 64,
                        .out = Out::f32};
  const Experts weights(p);
  ExpertMatrix matrix;
  matrix.format = weight_format("nvfp4");
  matrix.elements = Tensor(DType::f4_e2m1, {3, 128, 64});
  matrix.scales = Tensor(DType::f8_e4m3, {3, 128, 4});
  matrix.global_scale = Tensor(DType::f32, {3, 1});
  std::copy(weights.numbers.codes.begin(), weights.numbers.codes.end(),
            matrix.elements.as<std::uint8_t>());
  std::copy(weights.numbers.scales.begin(), weights.numbers.scales.end(),
            matrix.scales.as<std::uint8_t>());
  std::fill_n(matrix.global_scale.as<float>(), 3, 1.0F);
  const dense::Problem problem = {.phase = dense::Phase::fc2,
                                  .tokens = 40,
                                  .experts = 3,
                                  .hidden = 128,
                                  .intermediate = 64,
                                  .out = DType::f32};
  dense::Gemm gemm(problem, matrix);
  EXPECT_EQ(gemm.tactic(), dense::tactics(problem).front());
  GpuProblem fewer = p;
  fewer.tokens = 9;
  Case c(fewer, weights);
  c.define();
  Gpu& gpu = Gpu::get();
  for (const std::string& tactic : dense::tactics(problem)) {
    SCOPED_TRACE(tactic);
    gemm.use(tactic);
    EXPECT_EQ(gemm.tactic(), tactic);
    const cuda::DeviceBuffer workspace = gpu.poisoned(gemm.workspace_bytes());
    const cuda::DeviceBuffer out = gpu.poisoned(9 * 128 * 4);
    dense::Call call;
    call.tokens = 9, call.x = c.codes.data(), call.x_scales = c.scales.data();
    call.alpha = c.turned.as<float>(), call.token_major = true;
    call.out = out.data(), call.workspace = workspace.data();
    gemm.enqueue(call, {gpu.stream.get()});
    expect_right(c, {gpu.read(out), {}});
    call.tokens = 41;
    EXPECT_THROW(gemm.enqueue(call, {gpu.stream.get()}), InvalidArgument);
    call.tokens = 0;
    gemm.enqueue(call, {gpu.stream.get()});
    call.alpha = nullptr;
    EXPECT_THROW(gemm.enqueue(call, {gpu.stream.get()}), InvalidArgument);
  }
  EXPECT_THROW(gemm.use("(1,1)"), Unsupported);
  matrix.format = weight_format("mxfp4");
  EXPECT_THROW(dense::Gemm(problem, matrix), InvalidArgument);
}

}  // namespace
}  // namespace switchyard::dense_moe
