#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include "switchyard/problem.h"

namespace switchyard::moe {

/// Layers and batches to measure with.
///
/// Random values that repeat after a while: making 10^10 of them would take longer than the rest.
class Values {
 public:
  explicit Values(std::uint64_t seed);
  Tensor tensor(const Shape& shape, float scale);  ///< bf16
  Tensor floats(const Shape& shape, float scale);  ///< f32, all different
  Tensor runs(const Shape& shape);                 ///< f32, made of runs of the same values: quick
  /// Of a type of 4 or 8 bits, every byte one of `choices`.
  Tensor bytes(DType type, const Shape& shape, std::span<const std::uint8_t> choices);

 private:
  template <class T>
  void fill(Tensor& t, const std::vector<T>& table);

  std::vector<float> table_;
  std::mt19937_64 random_;
};

/// BF16, NVFP4 or MXFP4 weights of `experts` experts, and of the shared one, whose outputs are
/// of order 1; no code is zero.
MoeWeights random_weights(const MoeProblem& problem, int experts, Values& values);

/// Logits [T, E]: experts about equally (random), exactly equally (balanced), very unequally (zipf)
/// or all tokens on the same top_k (hot). Which experts those are differs from `turn` to turn, so
/// that L2 is cold.
Tensor random_logits(const MoeProblem& problem, int turn, Values& values);

/// Makes random logits [T, E] such.
void apply_load(Tensor& logits, std::string_view load, int top_k, int turn);

}  // namespace switchyard::moe
