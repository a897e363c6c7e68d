#include "switchyard/sorted.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "base/random.h"
#include "switchyard/error.h"
#include "tests/ops/dense_moe_data.h"
#include "tests/support/tiny.h"

namespace switchyard {
namespace {

using testing::kDenseScales;
using tiny::ints;

std::vector<std::int32_t> numbers(const Tensor& t) {
  return {t.as<std::int32_t>(), t.as<std::int32_t>() + t.shape().elements()};
}

/// The sort of [T, K] ids, in arrays that were full of something else.
struct Sorted {
  static constexpr std::int32_t kPoison = -2'000'000'000;
  int tile, top_k;
  Tensor owners, limits, permuted_of_pair, pair_of_permuted, padded, live;

  Sorted(const Tensor& ids, int first, int experts, int rows_a_tile)
      : tile(rows_a_tile), top_k(static_cast<int>(ids.shape()[1])) {
    const std::int64_t tiles = ops::sorted_tiles(ids.shape()[0], top_k, experts, tile);
    const auto poisoned = [](Shape shape) {
      Tensor t(DType::i32, shape);
      std::fill_n(t.as<std::int32_t>(), t.shape().elements(), kPoison);
      return t;
    };
    owners = poisoned({tiles}), limits = poisoned({tiles});
    permuted_of_pair = poisoned(ids.shape()), pair_of_permuted = poisoned({tiles * tile});
    padded = poisoned({1}), live = poisoned({1});
    ops::moe_sort({.expert_ids = ids.view(),
                   .first_expert = first,
                   .local_experts = experts,
                   .tile = tile,
                   .tile_idx_to_expert_idx = owners.view(),
                   .tile_idx_to_mn_limit = limits.view(),
                   .expanded_idx_to_permuted_idx = permuted_of_pair.view(),
                   .permuted_idx_to_expanded_idx = pair_of_permuted.view(),
                   .total_num_padded_tokens = padded.view(),
                   .num_non_exiting_tiles = live.view()});
  }

  ops::SortedRows rows() const {
    return {.tile = tile,
            .top_k = top_k,
            .tile_idx_to_expert_idx = owners.view(),
            .tile_idx_to_mn_limit = limits.view(),
            .permuted_idx_to_expanded_idx = pair_of_permuted.view(),
            .num_non_exiting_tiles = live.view()};
  }

  /// What nobody may follow points nowhere.
  void poison_padding() {
    auto* pairs = pair_of_permuted.as<std::int32_t>();
    const auto tiles = static_cast<int>(owners.shape()[0]);
    for (int i = 0; i < tiles; ++i) {
      const bool lives = i < live.as<std::int32_t>()[0];
      const int end = lives ? limits.as<std::int32_t>()[i] : 0;
      for (int row = i * tile; row < (i + 1) * tile; ++row)
        if (row >= end) pairs[row] = kPoison;
      if (!lives) owners.as<std::int32_t>()[i] = limits.as<std::int32_t>()[i] = kPoison;
    }
  }
};

Tensor random_ids(std::int64_t tokens, int top_k, int experts, std::uint64_t seed) {
  Tensor ids(DType::i32, {tokens, top_k});
  const Random random(seed);
  for (std::int64_t i = 0; i < ids.shape().elements(); ++i)
    ids.as<std::int32_t>()[i] = static_cast<std::int32_t>(
        random.below(static_cast<std::uint64_t>(i), static_cast<std::uint32_t>(experts)));
  return ids;
}

TEST(MoeSort, ByHand) {
  // Experts 1 and 2 of four are local: pairs 0 and 5 are expert 1's, pair 2 is expert 2's.
  const Tensor ids = ints({3, 2}, {1, 0, 2, 3, std::numeric_limits<std::int32_t>::min(), 1});
  const Sorted s(ids, 1, 2, 8);
  ASSERT_EQ(s.owners.shape()[0], 2);
  EXPECT_EQ(numbers(s.owners), (std::vector<std::int32_t>{0, 1}));
  EXPECT_EQ(numbers(s.limits), (std::vector<std::int32_t>{2, 9}));
  EXPECT_EQ(numbers(s.permuted_of_pair), (std::vector<std::int32_t>{0, -1, 8, -1, -1, 1}));
  EXPECT_EQ(numbers(s.pair_of_permuted), (std::vector<std::int32_t>{0, 5, -1, -1, -1, -1, -1, -1, 2,
                                                                    -1, -1, -1, -1, -1, -1, -1}));
  EXPECT_EQ(numbers(s.padded)[0], 16);
  EXPECT_EQ(numbers(s.live)[0], 2);
}

TEST(MoeSort, Invariants) {
  for (const int tile : {128, 256})
    for (const int ranks : {1, 8, 32})
      for (const int top_k : {1, 2, 8})
        for (const int tokens : {1, 128, 515, 1024}) {
          SCOPED_TRACE(::testing::Message() << "tile " << tile << " ep " << ranks << " k " << top_k
                                            << " tokens " << tokens);
          constexpr int kExperts = 256;
          const int locals = kExperts / ranks, first = locals * (ranks - 1);
          const Tensor ids = random_ids(tokens, top_k, kExperts, 5);
          const Sorted s(ids, first, locals, tile);
          std::vector<int> counts(static_cast<std::size_t>(locals));
          std::set<std::int32_t> rows;
          for (std::int64_t pair = 0; pair < ids.shape().elements(); ++pair) {
            const int local = ids.as<std::int32_t>()[pair] - first;
            const std::int32_t row = s.permuted_of_pair.as<std::int32_t>()[pair];
            if (local < 0 || local >= locals) {
              EXPECT_EQ(row, -1);
              continue;
            }
            ++counts[static_cast<std::size_t>(local)];
            EXPECT_TRUE(rows.insert(row).second);
            EXPECT_EQ(s.pair_of_permuted.as<std::int32_t>()[row], pair);
            EXPECT_EQ(s.owners.as<std::int32_t>()[row / tile], local);
            EXPECT_LT(row, s.limits.as<std::int32_t>()[row / tile]);
          }
          int padded = 0;
          for (const int count : counts) padded += (count + tile - 1) / tile * tile;
          EXPECT_EQ(numbers(s.padded)[0], padded);
          EXPECT_EQ(numbers(s.live)[0], padded / tile);
        }
}

/// Both GEMMs over a sort, and the dense ones, which compute every pair of token and expert.
struct Layer {
  static constexpr int kTokens = 21, kHidden = 64, kIntermediate = 48, kExperts = 5, kTopK = 2;
  static constexpr float kScale1 = 4.0F / 2688, kNorm = 2688 / 8.0F;
  ExpertMatrix gate_up, down;
  testing::Quantised x;
  std::vector<std::uint8_t> linear_scales;
  Tensor ids, weights, alpha1, alpha2;

  Layer() {
    const WeightFormat nvfp4 = weight_format("nvfp4");
    gate_up = quantize(random({kExperts, 2 * kIntermediate, kHidden}, 1, 0.125F).view(), nvfp4);
    down = quantize(random({kExperts, kHidden, kIntermediate}, 2, 0.2F).view(), nvfp4);
    x = testing::quantised(random({kTokens, kHidden}, 3, 1), 1 / kScale1);
    linear_scales.resize(kTokens * kHidden / 16);
    ops::unswizzle_scales(kDenseScales, 1, kTokens, kHidden / 16, x.scales, linear_scales);
    ids = random_ids(kTokens, kTopK, kExperts, 4);
    for (int t = 0; t < kTokens; ++t)  // a token's experts differ, as a router's do
      ids.as<std::int32_t>()[2 * t + 1] = (ids.as<std::int32_t>()[2 * t] + 1 + t % 4) % kExperts;
    weights = random({kTokens, kTopK}, 5, 1);
    alpha1 = scaled(gate_up, kScale1), alpha2 = scaled(down, 1 / kNorm);
  }

  static Tensor random(Shape shape, std::uint64_t seed, float deviation) {
    Tensor tensor(DType::f32, shape);
    const Random random(seed);
    for (std::int64_t i = 0; i < shape.elements(); ++i)
      tensor.as<float>()[i] = deviation * random.normal(static_cast<std::uint64_t>(i));
    return tensor;
  }
  static Tensor scaled(const ExpertMatrix& matrix, float by) {
    Tensor alpha(DType::f32, {kExperts});
    for (int e = 0; e < kExperts; ++e)
      alpha.as<float>()[e] = matrix.global_scale.as<float>()[e] * by;
    return alpha;
  }

  ops::GatherFc1Args fc1(const Sorted& sorted, TensorView out,
                         std::span<std::uint8_t> scales = {}) const {
    return {.x = x.codes.view(),
            .x_scales = linear_scales,
            .weights = &gate_up,
            .alpha = alpha1.view(),
            .rows = sorted.rows(),
            .norm_const = kNorm,
            .out = out,
            .out_scales = scales};
  }
};

TEST(SortedMoe, GathersWhatTheDenseGemmComputes) {
  const Layer layer;
  Sorted sorted(layer.ids, 0, Layer::kExperts, 8);
  sorted.poison_padding();
  const std::int64_t permuted = sorted.pair_of_permuted.shape()[0];
  constexpr int kWidth = Layer::kIntermediate, kAll = Layer::kExperts * kWidth;
  Tensor rows(DType::f32, {permuted, kWidth}), dense(DType::f32, {Layer::kTokens, kAll});
  std::fill_n(rows.as<float>(), rows.shape().elements(), -7.0F);
  ops::gather_fc1(layer.fc1(sorted, rows.view()));
  ops::dense_fc1({.x = layer.x.codes.view(),
                  .x_scales = layer.x.scales,
                  .weights = &layer.gate_up,
                  .alpha = layer.alpha1.view(),
                  .alpha_post = {},
                  .norm_const = 1,
                  .out = dense.view(),
                  .out_scales = {}});
  std::set<std::int64_t> written;
  for (int pair = 0; pair < Layer::kTokens * Layer::kTopK; ++pair) {
    const std::int64_t row = sorted.permuted_of_pair.as<std::int32_t>()[pair];
    const std::int32_t expert = layer.ids.as<std::int32_t>()[pair];
    written.insert(row);
    for (int j = 0; j < kWidth; ++j)
      ASSERT_EQ(rows.as<float>()[row * kWidth + j],
                dense.as<float>()[pair / Layer::kTopK * kAll + expert * kWidth + j]);
  }
  for (std::int64_t row = 0; row < permuted; ++row)
    if (!written.contains(row)) {
      ASSERT_EQ(rows.as<float>()[row * kWidth], -7.0F) << row;
    }
}

TEST(SortedMoe, BothGemmsAreTheDenseOnes) {
  const Layer layer;
  Sorted sorted(layer.ids, 0, Layer::kExperts, 16);
  sorted.poison_padding();
  const std::int64_t permuted = sorted.pair_of_permuted.shape()[0];
  constexpr int kWidth = Layer::kIntermediate, kAll = Layer::kExperts * kWidth;
  constexpr int kTokens = Layer::kTokens, kHidden = Layer::kHidden;
  const auto bytes = [](std::int64_t rows, std::int64_t cols) {
    return std::vector<std::uint8_t>(
        static_cast<std::size_t>(ops::scale_bytes(kDenseScales, rows, cols / 16)), 0x7f);
  };
  Tensor codes(DType::f4_e2m1, {permuted, kWidth}), out(DType::f32, {kTokens, kHidden});
  std::vector<std::uint8_t> scales = bytes(permuted, kWidth);
  ops::gather_fc1(layer.fc1(sorted, codes.view(), scales));
  ops::finalize_fc2({.x = codes.view(),
                     .x_scales = scales,
                     .weights = &layer.down,
                     .alpha = layer.alpha2.view(),
                     .rows = sorted.rows(),
                     .token_final_scales = layer.weights.view(),
                     .out = out.view()});

  Tensor dense_codes(DType::f4_e2m1, {kTokens, kAll}), expected(DType::f32, {kTokens, kHidden});
  Tensor scatter(DType::f32, {kTokens, Layer::kExperts});
  std::vector<std::uint8_t> dense_scales = bytes(kTokens, kAll);
  ops::dense_fc1({.x = layer.x.codes.view(),
                  .x_scales = layer.x.scales,
                  .weights = &layer.gate_up,
                  .alpha = layer.alpha1.view(),
                  .alpha_post = {},
                  .norm_const = Layer::kNorm,
                  .out = dense_codes.view(),
                  .out_scales = dense_scales});
  ops::fc2_alpha(
      {layer.ids.view(), layer.weights.view(), layer.alpha2.view(), 0, false, scatter.view()});
  ops::dense_fc2({.x = dense_codes.view(),
                  .x_scales = dense_scales,
                  .weights = &layer.down,
                  .alpha = scatter.view(),
                  .token_major = false,
                  .out = expected.view()});
  float largest = 0;
  for (int i = 0; i < kTokens * kHidden; ++i)
    largest = std::max(largest, std::abs(expected.as<float>()[i]));
  for (int i = 0; i < kTokens * kHidden; ++i)
    ASSERT_NEAR(out.as<float>()[i], expected.as<float>()[i], 1e-6F * largest) << i;
}

TEST(SortedMoe, TokensWithoutARowAreZeros) {
  const Layer layer;
  const Sorted none(ints({Layer::kTokens, 2}, std::vector<std::int32_t>(2 * Layer::kTokens, -1)), 0,
                    Layer::kExperts, 8);
  EXPECT_EQ(numbers(none.live)[0], 0);
  const std::int64_t permuted = none.pair_of_permuted.shape()[0];
  const Tensor codes(DType::f4_e2m1, {permuted, Layer::kIntermediate});
  const std::vector<std::uint8_t> scales(static_cast<std::size_t>(
      ops::scale_bytes(kDenseScales, permuted, Layer::kIntermediate / 16)));
  Tensor out(DType::f32, {Layer::kTokens, Layer::kHidden});
  std::fill_n(out.as<float>(), out.shape().elements(), 3.0F);
  ops::finalize_fc2({.x = codes.view(),
                     .x_scales = scales,
                     .weights = &layer.down,
                     .alpha = layer.alpha2.view(),
                     .rows = none.rows(),
                     .token_final_scales = layer.weights.view(),
                     .out = out.view()});
  EXPECT_TRUE(std::all_of(out.as<float>(), out.as<float>() + out.shape().elements(),
                          [](float v) { return v == 0; }));
}

template <class F>
std::string message_of(const F& call) {
  try {
    call();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "";
}

TEST(SortedMoe, SaysWhatIsWrong) {
  const Layer layer;
  Sorted sorted(layer.ids, 0, Layer::kExperts, 8);
  Tensor out(DType::f32, {sorted.pair_of_permuted.shape()[0], Layer::kIntermediate});
  const auto run = [&] { ops::gather_fc1(layer.fc1(sorted, out.view())); };
  const auto with = [&](Tensor& array, std::int64_t at, std::int32_t value) {
    std::int32_t& place = array.as<std::int32_t>()[at];
    const std::int32_t before = std::exchange(place, value);
    const std::string message = message_of(run);
    place = before;
    return message;
  };
  using ::testing::HasSubstr;
  EXPECT_EQ(message_of(run), "");
  EXPECT_THAT(with(sorted.pair_of_permuted, 0, 42),
              HasSubstr("[gather_fc1] permuted_idx_to_expanded_idx: expected 0 to 41"));
  EXPECT_THAT(with(sorted.pair_of_permuted, 0, -1), HasSubstr("got -1 in row 0"));
  EXPECT_THAT(with(sorted.owners, 0, 5),
              HasSubstr("tile_idx_to_expert_idx: expected local experts 0 to 4, got 5 for tile 0"));
  EXPECT_THAT(with(sorted.live, 0, 1000), HasSubstr("num_non_exiting_tiles: expected 0 to"));
  sorted.tile = 12;
  EXPECT_THAT(message_of(run), HasSubstr("tile: expected a positive multiple of 8, got 12"));
}

}  // namespace
}  // namespace switchyard
