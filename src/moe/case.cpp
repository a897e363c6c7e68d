// Random layers. Weights are scaled so that outputs are of order 1: tokens have deviation 1, rows
// of every matrix have norm about 1. Experts differ in loudness, so that a mixed-up scale shows.

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "formats/convert.h"
#include "moe/parts.h"
#include "ops/route/problem.h"
#include "switchyard/problem.h"

namespace switchyard {
namespace {

using moe::Range;

enum Stream : std::uint64_t {
  kTokens,
  kLogits,
  kCorrection,
  kHash,
  kInputIds,
  kGateUp,
  kDown,
  kSharedGateUp,
  kSharedDown,
  kSharedGate,
  kLatentDown,
  kLatentNorm,
  kLatentUp,
  kBias = 64,  // + the stream of the matrix
};

/// deviation * normal + mean, as `type`.
Tensor random_tensor(DType type, const Shape& shape, const Random& random, float deviation,
                     float mean = 0, std::uint64_t first = 0) {
  Tensor tensor(type, shape);
  std::vector<float> run(4096);
  const std::int64_t count = shape.elements();
  for (std::int64_t at = 0; at < count; at += 4096) {
    const std::int64_t n = std::min<std::int64_t>(4096, count - at);
    for (std::int64_t i = 0; i < n; ++i)
      run[static_cast<std::size_t>(i)] =
          mean + deviation * random.normal(first + static_cast<std::uint64_t>(at + i));
    formats::store_run(type, tensor.data(), at, n, run.data());
  }
  return tensor;
}

/// Puts expert `index` of `count` in its place in the stack.
void append(Tensor& stack, const Tensor& one, std::int64_t index, std::int64_t count) {
  if (!one) return;
  if (!stack) {
    std::vector<std::int64_t> extents(one.shape().begin(), one.shape().end());
    extents[0] = count;
    stack = Tensor(one.dtype(), Shape(extents));
  }
  const auto bytes = static_cast<std::size_t>(one.bytes());
  std::memcpy(static_cast<std::byte*>(stack.data()) + static_cast<std::size_t>(index) * bytes,
              one.data(), bytes);
}

struct MatrixSpec {
  WeightFormat format;
  std::uint64_t seed;
  Stream stream;
  std::int64_t out, in;
  int parts;
  bool bias;
};

/// One expert of the whole layer, quantised before any part is taken from it.
ExpertMatrix whole_expert(const MatrixSpec& spec, std::int64_t expert) {
  const float loudness = 0.5F + 0.25F * static_cast<float>(expert % 4);
  const float deviation = loudness / std::sqrt(static_cast<float>(spec.in));
  const auto first = static_cast<std::uint64_t>(expert * spec.out * spec.in);
  const Tensor dense = random_tensor(DType::f32, {1, spec.out, spec.in},
                                     Random(spec.seed, spec.stream), deviation, 0, first);
  ExpertMatrix matrix =
      quantize(dense.view(), spec.format, spec.format.global_scale ? spec.parts : 1);
  if (spec.bias)
    matrix.bias = random_tensor(DType::f32, {1, spec.out}, Random(spec.seed, kBias + spec.stream),
                                0.25F, 0, static_cast<std::uint64_t>(expert * spec.out));
  return matrix;
}

void append(ExpertMatrix& stack, const ExpertMatrix& one, std::int64_t index, std::int64_t count) {
  append(stack.elements, one.elements, index, count);
  append(stack.scales, one.scales, index, count);
  append(stack.zeros, one.zeros, index, count);
  append(stack.global_scale, one.global_scale, index, count);
  append(stack.bias, one.bias, index, count);
}

/// Experts [experts.first, + count), each cut by `part`.
template <class Part>
ExpertMatrix stack(const MatrixSpec& spec, Range experts, Part part) {
  ExpertMatrix all;
  all.format = spec.format;
  const auto add = [&](std::int64_t i) {
    append(all, part(whole_expert(spec, experts.first + i)), i, experts.count);
  };
  if (experts.count > 0) add(0);  // alone, because it allocates the stack
  const bool large = experts.count * spec.out * spec.in > (1 << 22);
  ThreadPool pool(large ? usable_cores() : 1);
  pool.parallel_for(experts.count - 1, [&](std::int64_t i, int) { add(i + 1); });
  return all;
}

Tensor scalar(float value) {
  Tensor tensor(DType::f32, {1});
  *tensor.as<float>() = value;
  return tensor;
}

/// The scale whose largest value is `max`, for the formats that have one.
void set_input_scales(ActivationFormat act, ExpertWeights& experts) {
  float largest = 0;
  if (act == ActivationFormat::nvfp4) largest = 448 * 6;
  if (act == ActivationFormat::fp8_tensor) largest = 448;
  if (largest == 0 || !experts.gate_up.format.scaled) return;
  experts.gate_up.input_scale = scalar(4 / largest);
  experts.down.input_scale = scalar(8 / largest);
}

struct ExpertSpec {
  std::uint64_t seed;
  Stream gate_up, down;
  std::int64_t width, intermediate;
  bool bias;
};

ExpertWeights random_experts(const MoeProblem& p, const ExpertSpec& spec, Range experts,
                             Range range) {
  const bool gated = p.config.activation.gated();
  const int parts = gated ? 2 : 1;
  const bool split = p.tp_ranks > 1;
  ExpertWeights made;
  made.gate_up = stack({.format = p.format,
                        .seed = spec.seed,
                        .stream = spec.gate_up,
                        .out = parts * spec.intermediate,
                        .in = spec.width,
                        .parts = parts,
                        .bias = spec.bias},
                       experts, [&](ExpertMatrix whole) {
                         return split ? moe::slice_rows(whole, parts, range) : std::move(whole);
                       });
  made.down = stack({.format = p.format,
                     .seed = spec.seed,
                     .stream = spec.down,
                     .out = spec.width,
                     .in = spec.intermediate,
                     .parts = 1,
                     .bias = spec.bias && p.tp_rank == 0},
                    experts, [&](ExpertMatrix whole) {
                      return split ? moe::slice_columns(whole, range) : std::move(whole);
                    });
  set_input_scales(p.config.act, made);
  return made;
}

/// log2(x), linear between powers of two: exact arithmetic, so the same everywhere.
float coarse_log2(int x) {
  int power = 0;
  while ((x >> (power + 1)) > 0) ++power;
  return static_cast<float>(power) + static_cast<float>(x) / static_cast<float>(1 << power) - 1;
}

Tensor random_logits(const MoeProblem& p, std::uint64_t seed) {
  const int width = p.config.experts + p.config.routing.zero_experts, k = p.config.top_k;
  Tensor logits = random_tensor(DType::f32, {p.tokens, width}, Random(seed, kLogits),
                                p.load == "random" ? 1.5F : 0.5F);
  constexpr float kChosen = 12;
  float* row = logits.as<float>();
  for (int t = 0; t < p.tokens; ++t, row += width) {
    if (p.load == "zipf")
      for (int e = 0; e < width; ++e) row[e] -= coarse_log2(e + 1);
    for (int j = 0; j < k; ++j) {
      const auto slot = static_cast<std::int64_t>(t) * k + j;
      if (p.load == "balanced") row[slot % width] += kChosen;
      if (p.load == "hot") row[j] += kChosen;
    }
  }
  return logits;
}

constexpr int kVocabulary = 512;

void add_hash(const MoeProblem& p, std::uint64_t seed, MoeCase& made) {
  const int experts = p.config.experts, k = p.config.top_k;
  made.weights.hash_table = Tensor(DType::i32, {kVocabulary, k});
  const Random random(seed, kHash), ids(seed, kInputIds);
  for (std::uint64_t v = 0; v < kVocabulary; ++v) {
    const auto first = static_cast<int>(random.below(v, static_cast<std::uint32_t>(experts)));
    for (int j = 0; j < k; ++j)
      made.weights.hash_table
          .as<std::int32_t>()[v * static_cast<std::uint64_t>(k) + static_cast<std::uint64_t>(j)] =
          (first + j) % experts;
  }
  made.input_ids = Tensor(DType::i32, {p.tokens});
  for (int t = 0; t < p.tokens; ++t)
    made.input_ids.as<std::int32_t>()[t] =
        static_cast<std::int32_t>(ids.below(static_cast<std::uint64_t>(t), kVocabulary));
}

void add_latent(const MoeProblem& p, std::uint64_t seed, MoeWeights& weights) {
  const std::int64_t latent = p.config.latent, hidden = p.config.hidden;
  weights.latent_down = random_tensor(DType::bf16, {latent, hidden}, Random(seed, kLatentDown),
                                      1 / std::sqrt(static_cast<float>(hidden)));
  weights.latent_up = random_tensor(DType::bf16, {hidden, latent}, Random(seed, kLatentUp),
                                    1 / std::sqrt(static_cast<float>(latent)));
  if (p.tp_ranks == 1 && p.ep_ranks == 1)  // parts of a norm do not sum to it
    weights.latent_norm = random_tensor(DType::f32, {latent}, Random(seed, kLatentNorm), 0.125F, 1);
}

/// Global to local ids; empty for a rank that has everything.
std::vector<int> expert_map(const MoeProblem& p, Range experts) {
  if (p.ep_ranks == 1 && p.tp_ranks == 1) return {};
  std::vector<int> map;
  for (int e = 0; e < p.config.experts; ++e) {
    const std::int64_t local = e - experts.first;
    map.push_back(local >= 0 && local < experts.count ? static_cast<int>(local) : -1);
  }
  const bool first = p.ep_rank == 0 && p.tp_rank == 0;
  map.insert(map.end(), static_cast<std::size_t>(p.config.routing.zero_experts), first ? 0 : -1);
  return map;
}

}  // namespace

MoeCase make_case(const MoeProblem& problem, std::uint64_t seed) {
  parse_problem(to_string(problem));  // checks the numbers
  const MoeProblem& p = problem;
  const std::int64_t each = p.config.experts / p.ep_ranks;
  const Range experts{each * p.ep_rank, each};
  const std::int64_t unit = moe::split_unit(p.format);
  const Range range = moe::share(p.config.intermediate, unit, p.tp_rank, p.tp_ranks);

  MoeCase made;
  made.config = p.config;
  made.config.intermediate = static_cast<int>(range.count);
  made.config.expert_map = expert_map(p, experts);
  made.weights.experts = random_experts(p,
                                        {.seed = seed,
                                         .gate_up = kGateUp,
                                         .down = kDown,
                                         .width = p.config.expert_width(),
                                         .intermediate = p.config.intermediate,
                                         .bias = p.bias},
                                        experts, range);
  made.config.shared_intermediate = 0;
  made.config.shared_gate = false;
  if (p.config.shared_intermediate > 0 && p.ep_rank == 0) {
    const Range part = moe::share(p.config.shared_intermediate, unit, p.tp_rank, p.tp_ranks);
    made.config.shared_intermediate = static_cast<int>(part.count);
    made.config.shared_gate = p.config.shared_gate;
    made.weights.shared = random_experts(p,
                                         {.seed = seed,
                                          .gate_up = kSharedGateUp,
                                          .down = kSharedDown,
                                          .width = p.config.hidden,
                                          .intermediate = p.config.shared_intermediate,
                                          .bias = false},
                                         {0, 1}, part);
    if (p.config.shared_gate)
      made.weights.shared_gate =
          random_tensor(DType::f32, {p.config.hidden}, Random(seed, kSharedGate),
                        1 / std::sqrt(static_cast<float>(p.config.hidden)));
  }
  if (p.config.latent > 0) add_latent(p, seed, made.weights);
  if (route::rule(p.config.routing.method).biased)
    made.weights.correction_bias =
        random_tensor(DType::f32, {p.config.experts + p.config.routing.zero_experts},
                      Random(seed, kCorrection), 0.25F);
  if (p.config.routing.method == RoutingMethod::hash) add_hash(p, seed, made);
  made.tokens = random_tensor(DType::bf16, {p.tokens, p.config.hidden}, Random(seed, kTokens), 1);
  made.router_logits = random_logits(p, seed);
  return made;
}

}  // namespace switchyard
