// f64 and plain loops over the rows: this file is what the kernels are tested against.

#include <algorithm>
#include <vector>

#include "base/math.h"
#include "device/activation.cuh"
#include "formats/decode.h"
#include "ops/sorted_moe/problem.h"

namespace switchyard::sorted_moe {
namespace {

std::vector<double> row_of(const ExpertMatrix& weights, std::int64_t expert, std::int64_t row) {
  std::vector<double> w(static_cast<std::size_t>(weights.in()));
  formats::decode_row(weights, expert, row, w.data());
  return w;
}

double dot(std::span<const double> x, std::int64_t row, const std::vector<double>& w) {
  double sum = 0;
  const std::size_t first = static_cast<std::size_t>(row) * w.size();
  for (std::size_t k = 0; k < w.size(); ++k) sum += x[first + k] * w[k];
  return sum;
}

}  // namespace

void fc1_reference(const ExpertMatrix& weights, std::span<const Row> rows, int top_k,
                   std::span<const double> x, std::span<const float> alpha, std::span<double> y) {
  const std::int64_t width = weights.out() / 2;
  for (std::int64_t e = 0; e < weights.experts(); ++e)
    for (std::int64_t j = 0; j < width; ++j) {
      const std::vector<double> gate = row_of(weights, e, j), up = row_of(weights, e, width + j);
      const double a = alpha[static_cast<std::size_t>(e)];
      for (const Row& r : rows)
        if (r.expert == e)
          y[static_cast<std::size_t>(r.row * width + j)] =
              device::silu<StdMath>(a * dot(x, r.pair / top_k, gate)) *
              (a * dot(x, r.pair / top_k, up));
    }
}

void fc2_reference(const ExpertMatrix& weights, std::span<const Row> rows, int top_k,
                   std::span<const double> x, std::span<const float> alpha,
                   std::span<const float> weights_of_pairs, std::span<double> y) {
  std::ranges::fill(y, 0.0);
  for (std::int64_t e = 0; e < weights.experts(); ++e)
    for (std::int64_t h = 0; h < weights.out(); ++h) {
      const std::vector<double> w = row_of(weights, e, h);
      const double a = alpha[static_cast<std::size_t>(e)];
      for (const Row& r : rows)
        if (r.expert == e)
          y[static_cast<std::size_t>(r.pair / top_k * weights.out() + h)] +=
              weights_of_pairs[static_cast<std::size_t>(r.pair)] * a * dot(x, r.row, w);
    }
}

TileMap tile_map(std::span<const std::int32_t> expert_ids, int experts, int tile) {
  TileMap map;
  map.permuted_of_slot.assign(expert_ids.size(), -1);
  for (std::int32_t e = 0; e < experts; ++e) {
    for (std::size_t slot = 0; slot < expert_ids.size(); ++slot) {
      if (expert_ids[slot] != e) continue;
      map.permuted_of_slot[slot] = static_cast<std::int32_t>(map.slot_of_permuted.size());
      map.slot_of_permuted.push_back(static_cast<std::int32_t>(slot));
    }
    const std::size_t limit = map.slot_of_permuted.size();
    map.slot_of_permuted.resize(round_up(limit, static_cast<std::size_t>(tile)), -1);
    while (map.expert_of_tile.size() * static_cast<std::size_t>(tile) <
           map.slot_of_permuted.size()) {
      map.expert_of_tile.push_back(e);
      map.row_limit_of_tile.push_back(static_cast<std::int32_t>(limit));
    }
  }
  return map;
}

}  // namespace switchyard::sorted_moe
