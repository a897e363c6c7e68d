#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "switchyard/config.h"
#include "switchyard/device.h"
#include "switchyard/tensor.h"
#include "switchyard/weights.h"

namespace switchyard {

/// Everything a layer reads. Absent tensors switch their feature off.
struct MoeWeights {
  ExpertWeights experts;
  ExpertWeights shared;    ///< one expert: [1, 2 Is, H], [1, H, Is]
  Tensor shared_gate;      ///< [H]  f32
  Tensor router;           ///< [E + zero experts, H]  f32 | bf16 | f16
  Tensor router_bias;      ///< [E]  f32, added to the logits
  Tensor correction_bias;  ///< [E]  f32, added to the scores for selection only
  Tensor hash_table;       ///< [vocabulary, K]  i32
  Tensor latent_down;      ///< [L, H]  f32 | bf16 | f16
  Tensor latent_norm;      ///< [L]  f32
  Tensor latent_up;        ///< [H, L]  f32 | bf16 | f16
};

/// One call's arrays; T tokens, none may overlap `out`. MoePlan::run takes them on the host,
/// enqueue on the layer's GPU, 16-byte aligned.
struct MoeBuffers {
  ConstTensorView tokens;         ///< [T, H]  bf16 | f16 | f32
  ConstTensorView router_logits;  ///< [T, E (+ zero experts)]  f32 | bf16 | f16; or
  ConstTensorView expert_ids;     ///< [T, K]  i32, -1 leaves the slot out; and
  ConstTensorView
      expert_weights;         ///< [T, K]  f32, used as given; or none: logits = tokens x router
  ConstTensorView input_ids;  ///< [T]  i32 | i64, hash routing only
  TensorView out;             ///< [T, H]  bf16 | f16 | f32
  TensorView chosen_ids;      ///< [T, K]  i32, optional output
  TensorView chosen_weights;  ///< [T, K]  f32, optional output
  std::span<std::byte> workspace;  ///< workspace_bytes(), 64-byte aligned (GPU: 256)
  /// Only for enqueue, both optional:
  ConstTensorView token_count = {};  ///< [1]  i32: T of this replay, at most tokens' T
  TensorView counters = {};          ///< [3]  i64: added to, in the order of MoeCounters
};

/// What a run met and dropped; it never corrupts memory.
struct MoeCounters {
  std::int64_t bad_expert_ids = 0;      ///< outside [-1, E + zero experts)
  std::int64_t non_finite_weights = 0;  ///< the slot was left out
  std::int64_t non_finite_logits = 0;   ///< NaN logits rank last
};

struct MoeState;

/// A layer planned for at most max_tokens. Cheap to copy; keeps the layer's weights alive.
class MoePlan {
 public:
  int max_tokens() const noexcept;
  std::size_t workspace_bytes() const noexcept;  ///< on the layer's device
  /// The steps, their variants, bytes and FLOPs, as `switchyard explain` prints them.
  std::string explain() const;
  /// out = MoE(tokens). 0 <= T <= max_tokens. Same bits every run, at any thread count.
  /// May be called from several threads at once with separate workspaces.
  /// Throws InvalidArgument, before anything is written, if a shape, type or size is wrong.
  /// On a GPU layer it copies the arrays there and back and waits, with memory of its own; logits
  /// that are not given are computed on the CPU.
  MoeCounters run(const MoeBuffers& buffers) const;
  /// The same on a GPU: enqueues and returns. Allocates, compiles, synchronises and locks nothing,
  /// so a CUDA graph can record it; a graph recorded for T tokens serves fewer by `token_count`.
  /// Several streams may run one plan with separate workspaces, whose contents do not matter.
  void enqueue(const MoeBuffers& buffers, Stream stream) const;

 private:
  friend class MoeLayer;
  std::shared_ptr<const MoeState> layer_;
  std::shared_ptr<const struct PlanState> plan_;
};

/// A layer: mathematics + weights + device. Cheap to copy.
class MoeLayer {
 public:
  /// Throws InvalidArgument if a tensor does not fit the config, Unsupported if no variant serves
  /// it; the weights are then still the caller's.
  MoeLayer(MoeConfig config, MoeWeights&& weights, Device device = Device::cpu());
  const MoeConfig& config() const noexcept;
  MoePlan plan(int max_tokens) const;

 private:
  std::shared_ptr<const MoeState> state_;
};

}  // namespace switchyard
