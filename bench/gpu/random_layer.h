#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "switchyard/problem.h"

namespace switchyard::bench {

/// Random values that repeat after a while: making 10^10 of them would take longer than the rest.
class Values {
 public:
  explicit Values(std::uint64_t seed);
  Tensor tensor(const Shape& shape, float scale);  ///< bf16
  Tensor floats(const Shape& shape, float scale);  ///< f32, all different
  /// Of a type of 4 or 8 bits, every byte one of `choices`.
  Tensor bytes(DType type, const Shape& shape, std::span<const std::uint8_t> choices);

 private:
  template <class T>
  void fill(Tensor& t, const std::vector<T>& table);

  std::vector<float> table_;
  std::mt19937_64 random_;
};

/// BF16, NVFP4 or MXFP4 weights whose outputs are of order 1; no code is zero.
MoeWeights random_weights(const MoeProblem& problem, Values& values);

/// Logits [T, E]: experts about equally (random), exactly equally (balanced), very unequally (zipf)
/// or all tokens on the same top_k (hot). Which experts those are differs from `turn` to turn, so
/// that L2 is cold.
Tensor random_logits(const MoeProblem& problem, int turn, Values& values);

}  // namespace switchyard::bench
