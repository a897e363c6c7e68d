// Grouped GEMMs over an engine's own sort, on a CPU: codes to numbers, the definition, numbers to
// the output type.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "base/expect.h"
#include "formats/convert.h"
#include "formats/nvfp4.cuh"
#include "ops/nvfp4_arrays.h"
#include "ops/sorted_moe/problem.h"
#include "switchyard/sorted.h"

namespace switchyard::ops {
namespace {

using formats::kNvfp4Block;
using sorted_moe::Row;

void expect_tile(std::string_view where, int tile) {
  require(tile > 0 && tile % 8 == 0, "[{}] tile: expected a positive multiple of 8, got {}.", where,
          tile);
}

std::int32_t number(ConstTensorView view, std::int64_t i) {
  return view.as<std::int32_t>()[i];
}

/// The rows that are some pair's, in order; every index that is followed is checked.
std::vector<Row> rows_of(std::string_view where, const SortedRows& s, std::int64_t experts,
                         std::int64_t pairs) {
  expect_tile(where, s.tile);
  require(s.top_k > 0, "[{}] top_k: expected at least 1, got {}.", where, s.top_k);
  const ConstTensorView& owners = s.tile_idx_to_expert_idx;
  const std::int64_t tiles = owners.shape.rank() == 1 ? owners.shape[0] : 0;
  expect(where, "tile_idx_to_expert_idx", owners, {tiles}, {DType::i32});
  expect(where, "tile_idx_to_mn_limit", s.tile_idx_to_mn_limit, {tiles}, {DType::i32});
  expect(where, "permuted_idx_to_expanded_idx", s.permuted_idx_to_expanded_idx, {tiles * s.tile},
         {DType::i32});
  expect(where, "num_non_exiting_tiles", s.num_non_exiting_tiles, {1}, {DType::i32});
  const std::int64_t live = number(s.num_non_exiting_tiles, 0);
  require(live >= 0 && live <= tiles, "[{}] num_non_exiting_tiles: expected 0 to {}, got {}.",
          where, tiles, live);
  std::vector<Row> rows;
  for (std::int64_t tile = 0; tile < live; ++tile) {
    const std::int64_t expert = number(owners, tile), limit = number(s.tile_idx_to_mn_limit, tile);
    require(expert >= 0 && expert < experts,
            "[{}] tile_idx_to_expert_idx: expected local experts 0 to {}, got {} for tile {}.",
            where, experts - 1, expert, tile);
    const std::int64_t end = std::min(limit, (tile + 1) * s.tile);
    for (std::int64_t row = tile * s.tile; row < end; ++row) {
      const std::int64_t pair = number(s.permuted_idx_to_expanded_idx, row);
      require(pair >= 0 && pair < pairs,
              "[{}] permuted_idx_to_expanded_idx: expected 0 to {} below the tile's limit, got {} "
              "in row {}.",
              where, pairs - 1, pair, row);
      rows.push_back({.row = row, .expert = expert, .pair = pair});
    }
  }
  return rows;
}

std::int64_t rows_at_most(const SortedRows& s) {
  const ConstTensorView& owners = s.tile_idx_to_expert_idx;
  return (owners.shape.rank() == 1 ? owners.shape[0] : 0) * s.tile;
}

}  // namespace

std::int64_t sorted_tiles(std::int64_t tokens, int top_k, int local_experts, int tile) {
  expect_tile("moe_sort", tile);
  const std::int64_t pairs = tokens * top_k;
  if (pairs <= local_experts) return pairs;
  return (pairs + std::int64_t{tile - 1} * local_experts) / tile;
}

void moe_sort(const MoeSortArgs& args) {
  constexpr std::string_view kWhere = "moe_sort";
  const ConstTensorView& ids = args.expert_ids;
  require(ids.shape.rank() == 2, "[moe_sort] expert_ids: expected [T, K], got {}.",
          to_string(ids.shape));
  expect(kWhere, "expert_ids", ids, ids.shape, {DType::i32});
  require(args.local_experts > 0, "[moe_sort] local_experts: expected at least 1, got {}.",
          args.local_experts);
  require(args.first_expert >= 0, "[moe_sort] first_expert: expected at least 0, got {}.",
          args.first_expert);
  const std::int64_t tiles =
      sorted_tiles(ids.shape[0], static_cast<int>(ids.shape[1]), args.local_experts, args.tile);
  require(tiles * args.tile <= std::numeric_limits<std::int32_t>::max(),
          "[moe_sort] expert_ids: expected at most 2^31 - 1 permuted rows, got {}.",
          tiles * args.tile);
  expect(kWhere, "tile_idx_to_expert_idx", args.tile_idx_to_expert_idx, {tiles}, {DType::i32});
  expect(kWhere, "tile_idx_to_mn_limit", args.tile_idx_to_mn_limit, {tiles}, {DType::i32});
  expect(kWhere, "expanded_idx_to_permuted_idx", args.expanded_idx_to_permuted_idx, ids.shape,
         {DType::i32});
  expect(kWhere, "permuted_idx_to_expanded_idx", args.permuted_idx_to_expanded_idx,
         {tiles * args.tile}, {DType::i32});
  expect(kWhere, "total_num_padded_tokens", args.total_num_padded_tokens, {1}, {DType::i32});
  expect(kWhere, "num_non_exiting_tiles", args.num_non_exiting_tiles, {1}, {DType::i32});

  std::vector<std::int32_t> local(static_cast<std::size_t>(ids.shape.elements()));
  for (std::size_t i = 0; i < local.size(); ++i) {
    const std::int64_t own =
        std::int64_t{number(ids, static_cast<std::int64_t>(i))} - args.first_expert;
    local[i] = own >= 0 && own < args.local_experts ? static_cast<std::int32_t>(own) : -1;
  }
  const sorted_moe::TileMap map = sorted_moe::tile_map(local, args.local_experts, args.tile);
  const auto fill = [](TensorView to, const std::vector<std::int32_t>& from, std::int32_t rest) {
    auto* values = to.as<std::int32_t>();
    std::fill(std::ranges::copy(from, values).out, values + to.shape.elements(), rest);
  };
  fill(args.tile_idx_to_expert_idx, map.expert_of_tile, 0);
  fill(args.tile_idx_to_mn_limit, map.row_limit_of_tile, 0);
  fill(args.expanded_idx_to_permuted_idx, map.permuted_of_slot, -1);
  fill(args.permuted_idx_to_expanded_idx, map.slot_of_permuted, -1);
  fill(args.total_num_padded_tokens, {static_cast<std::int32_t>(map.slot_of_permuted.size())}, 0);
  fill(args.num_non_exiting_tiles, {static_cast<std::int32_t>(map.expert_of_tile.size())}, 0);
}

void gather_fc1(const GatherFc1Args& args, Device) {
  constexpr std::string_view kWhere = "gather_fc1";
  expect_nvfp4_weights(kWhere, args.weights);
  const std::int64_t experts = args.weights->experts(), hidden = args.weights->in();
  require(args.weights->out() % (2 * kNvfp4Block) == 0,
          "[gather_fc1] weights: expected [L, 2 I, H] with I in whole blocks of {}, got {}.",
          kNvfp4Block, to_string(args.weights->elements.shape()));
  const std::int64_t width = args.weights->out() / 2;
  const std::int64_t tokens = args.x.shape.rank() == 2 ? args.x.shape[0] : 0;
  expect(kWhere, "x", args.x, {tokens, hidden}, {DType::f4_e2m1});
  expect_scales(kWhere, "x_scales", args.x_scales.size(), ScaleLayout::linear, tokens, hidden);
  expect(kWhere, "alpha", args.alpha, {experts}, {DType::f32});
  const std::vector<Row> rows = rows_of(kWhere, args.rows, experts, tokens * args.rows.top_k);
  const std::int64_t permuted = rows_at_most(args.rows);
  expect(kWhere, "out", args.out, {permuted, width},
         {DType::f4_e2m1, DType::bf16, DType::f16, DType::f32});
  const bool quantised = args.out.dtype == DType::f4_e2m1;
  if (quantised) {
    expect_scales(kWhere, "out_scales", args.out_scales.size(), ScaleLayout::swizzled_128x4,
                  permuted, width);
    require(args.norm_const > 0 && std::isfinite(args.norm_const),
            "[gather_fc1] norm_const: expected a positive number, got {}.", args.norm_const);
  }

  std::vector<double> y(static_cast<std::size_t>(permuted * width));
  sorted_moe::fc1_reference(*args.weights, rows, args.rows.top_k,
                            decode_nvfp4(args.x, args.x_scales, ScaleLayout::linear),
                            floats(args.alpha), y);
  for (const Row& r : rows) {
    if (quantised)
      encode_nvfp4_row(y, r.row, args.norm_const, args.out, args.out_scales);
    else
      formats::store_run(args.out.dtype, args.out.data, r.row * width, width,
                         &y[static_cast<std::size_t>(r.row * width)]);
  }
}

void finalize_fc2(const FinalizeFc2Args& args, Device) {
  constexpr std::string_view kWhere = "finalize_fc2";
  expect_nvfp4_weights(kWhere, args.weights);
  const std::int64_t experts = args.weights->experts(), hidden = args.weights->out();
  const std::int64_t width = args.weights->in(), permuted = rows_at_most(args.rows);
  expect(kWhere, "x", args.x, {permuted, width}, {DType::f4_e2m1});
  expect_scales(kWhere, "x_scales", args.x_scales.size(), ScaleLayout::swizzled_128x4, permuted,
                width);
  expect(kWhere, "alpha", args.alpha, {experts}, {DType::f32});
  const std::int64_t tokens =
      args.token_final_scales.shape.rank() == 2 ? args.token_final_scales.shape[0] : 0;
  expect(kWhere, "token_final_scales", args.token_final_scales, {tokens, args.rows.top_k},
         {DType::f32});
  const std::vector<Row> rows = rows_of(kWhere, args.rows, experts, tokens * args.rows.top_k);
  expect(kWhere, "out", args.out, {tokens, hidden}, kPlainFloats);

  std::vector<double> y(static_cast<std::size_t>(tokens * hidden));
  sorted_moe::fc2_reference(*args.weights, rows, args.rows.top_k,
                            decode_nvfp4(args.x, args.x_scales, ScaleLayout::swizzled_128x4),
                            floats(args.alpha), floats(args.token_final_scales), y);
  formats::store_run(args.out.dtype, args.out.data, 0, tokens * hidden, y.data());
}

}  // namespace switchyard::ops
