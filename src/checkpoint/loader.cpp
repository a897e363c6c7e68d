#include "checkpoint/loader.h"

#include <numeric>

#include "base/check.h"
#include "base/math.h"
#include "checkpoint/matrix_reader.h"

namespace switchyard::checkpoint {
namespace {

struct Range {
  std::int64_t begin, size;
};

/// Part `part` of `extent`, cut between groups.
Range cut(std::int64_t extent, std::int64_t group, const Part& part, std::string_view what) {
  const std::int64_t groups = ceil_div(extent, group);
  require(part.ranks <= groups,
          "[checkpoint.load] tp: expected at most {} parts of {} {} (groups of {}), got {}. Use "
          "fewer ranks.",
          groups, what, extent, group, part.ranks);
  const std::int64_t begin = groups * part.rank / part.ranks * group;
  const std::int64_t end = groups * (part.rank + 1) / part.ranks * group;
  return {begin, std::min(end, extent) - begin};
}

/// Rows of gate and up, and columns of down, of one part.
Range cut_intermediate(const ExpertsPlan& plan, const Part& part, std::string_view what) {
  const std::int64_t group = std::lcm(row_group(plan.gate_up), col_group(plan.down));
  if (part.ranks == 1) return {0, plan.gate_up.rows};
  return cut(plan.gate_up.rows, group, part, what);
}

void check_part(const Part& part, std::string_view name) {
  require(part.ranks >= 1 && part.rank >= 0 && part.rank < part.ranks,
          "[checkpoint.load] {}: expected 0 <= rank < ranks, got {}/{}.", name, part.rank,
          part.ranks);
}

Range cut_experts(const LayerPlan& plan, const Part& part) {
  const std::int64_t experts = plan.config.experts;
  require(experts % part.ranks == 0,
          "[checkpoint.load] ep: expected a number of ranks that divides {} experts, got {}. Use "
          "one that does.",
          experts, part.ranks);
  return {experts * part.rank / part.ranks, experts / part.ranks};
}

void check_options(const LayerPlan& plan, const LoadOptions& options) {
  check_part(options.tp, "tp");
  check_part(options.ep, "ep");
  require(!plan.latent_norm || (options.tp.ranks == 1 && options.ep.ranks == 1),
          "[checkpoint.load] layer {}: expected tp 1 and ep 1, because the norm behind the experts "
          "needs the whole sum, got tp {} and ep {}. Load the whole layer on every rank.",
          plan.tensors->layer, options.tp.ranks, options.ep.ranks);
}

void read_experts(Reads& reads, const ExpertsPlan& plan, Range experts, Range intermediate,
                  bool first_rank, ExpertWeights& to) {
  Slice up = whole(plan.gate_up), down = whole(plan.down);
  up.expert = down.expert = experts.begin;
  up.experts = down.experts = experts.size;
  up.row = down.col = intermediate.begin;
  up.rows = down.cols = intermediate.size;
  down.bias = first_rank;
  read_matrix(reads, plan.gate_up, up, to.gate_up);
  read_matrix(reads, plan.down, down, to.down);
}

void read_leaf(Reads& reads, const Leaf* leaf, const Shape& shape, Tensor& to) {
  if (leaf) read_tensor(reads, *leaf, DType::f32, shape, to);
}

/// A projection as a plain matrix [out, in]: as stored, or decoded to f32.
void read_dense(Reads& reads, const Projection& projection, ExpertMatrix& scratch, Tensor& to) {
  const Leaf& elements = *projection.parts.front().matrix.elements;
  const Shape shape{projection.out(), projection.in};
  if (!projection.parts.front().matrix.scales) {
    read_tensor(reads, elements, *dtype_of(elements.type), shape, to);
    return;
  }
  read_matrix(reads, projection, whole(projection), scratch);
  reads.finally([&scratch, &to, shape] {
    const Tensor decoded = dequantize(scratch, DType::f32);
    to = Tensor::copy_of({decoded.data(), DType::f32, shape});
    scratch = {};
  });
}

}  // namespace

MoeConfig part_config(const LayerPlan& plan, const LoadOptions& options) {
  check_options(plan, options);
  MoeConfig config = plan.config;
  config.intermediate =
      static_cast<int>(cut_intermediate(plan.experts, options.tp, "the intermediate size").size);
  if (options.ep.ranks > 1) {
    const Range experts = cut_experts(plan, options.ep);
    config.expert_map.assign(static_cast<std::size_t>(config.experts), -1);
    for (std::int64_t e = 0; e < experts.size; ++e)
      config.expert_map[static_cast<std::size_t>(experts.begin + e)] = static_cast<int>(e);
  }
  const bool has_shared = plan.shared && options.ep.rank == 0;
  config.shared_intermediate =
      has_shared ? static_cast<int>(
                       cut_intermediate(*plan.shared, options.tp, "the shared expert's size").size)
                 : 0;
  config.shared_gate = config.shared_gate && has_shared;
  return config;
}

MoeWeights load_layer(const LayerPlan& plan, const Catalogue& catalogue, const LoadOptions& options,
                      std::int64_t* bytes_read) {
  const MoeConfig config = part_config(plan, options);
  const std::int64_t hidden = config.hidden, rows = plan.router->shape[0];
  MoeWeights weights;
  Reads reads;
  const bool first_rank = options.tp.rank == 0;
  read_experts(reads, plan.experts, cut_experts(plan, options.ep),
               cut_intermediate(plan.experts, options.tp, "the intermediate size"), first_rank,
               weights.experts);
  if (config.shared_intermediate > 0) {
    read_experts(reads, *plan.shared, {0, 1},
                 cut_intermediate(*plan.shared, options.tp, "the shared expert's size"), first_rank,
                 weights.shared);
    read_leaf(reads, plan.shared_gate, {hidden}, weights.shared_gate);
  }
  read_tensor(reads, *plan.router, *dtype_of(plan.router->type), plan.router->shape,
              weights.router);
  read_leaf(reads, plan.router_bias, {rows}, weights.router_bias);
  read_leaf(reads, plan.correction_bias, {rows}, weights.correction_bias);
  if (plan.hash_table)
    read_tensor(reads, *plan.hash_table, DType::i32, plan.hash_table->shape, weights.hash_table);
  ExpertMatrix latent_down, latent_up;
  if (plan.latent_down) {
    read_dense(reads, *plan.latent_down, latent_down, weights.latent_down);
    read_dense(reads, *plan.latent_up, latent_up, weights.latent_up);
    read_leaf(reads, plan.latent_norm, {config.latent}, weights.latent_norm);
  }
  if (bytes_read) *bytes_read = reads.bytes();
  reads.run(catalogue.directory, catalogue.shards, options.progress);
  return weights;
}

}  // namespace switchyard::checkpoint
