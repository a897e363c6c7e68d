#pragma once

#include <memory>
#include <optional>
#include <string>

#include "cuda/memory.h"
#include "cuda/stream.h"
#include "device/activation.cuh"
#include "device/half.cuh"
#include "jit/kernel.h"
#include "switchyard/moe.h"

namespace switchyard::moe {

/// Numbers of a layer that its GPU plans depend on; no GPU is needed to make one.
struct GpuShape {
  MoeConfig config;
  int locals = 0;  ///< experts of this rank
  int shared = 0;  ///< the shared expert in parts of I: experts that every token has
  Half half = Half::bf16;
  Weights weights = Weights::half;
  device::ActivationCode activation = device::ActivationCode::swiglu;
  bool bias = false;
  bool dense = false;  ///< activations are nvfp4 too: the dense GEMMs serve the layer

  int lists() const noexcept { return locals + shared; }
  int slots_a_token() const noexcept { return config.top_k + shared; }
};

/// Why no GPU kernel serves a layer whose experts are stored as `format`; empty when `shape` is
/// set, but for its bias.
std::optional<std::string> gpu_declines(const MoeConfig& config, const WeightFormat& format,
                                        int locals, GpuShape& shape);
/// The same of the weights themselves; empty when `shape` is set.
std::optional<std::string> gpu_declines(const MoeConfig& config, const MoeWeights& weights,
                                        GpuShape& shape);

/// A layer's weights on a GPU, as the kernels read them, and what compiles and loads kernels.
class GpuLayer {
 public:
  /// Throws Unsupported, with the reason, if the GPU or the layer is not served.
  GpuLayer(const MoeConfig& config, const MoeWeights& weights, int ordinal);
  ~GpuLayer();  ///< waits for the device, whose queues may hold calls of the layer

  const GpuShape& shape() const noexcept { return shape_; }
  const cuda::Context& context() const noexcept { return context_; }
  jit::Loader& loader() const noexcept { return *loader_; }

  /// Makes `locals` experts out of the few that were given, by turns: a layer to measure with.
  void repeat_experts(int locals);

  cuda::DeviceBuffer gate_up, down;                  ///< [lists] tiles
  cuda::DeviceBuffer gate_up_bias, down_bias;        ///< [lists, ...]  f32
  cuda::DeviceBuffer gate_up_factors, down_factors;  ///< [lists, 2]  f32, of packed weights
  cuda::DeviceBuffer down_norms;                     ///< [lists] grouped_gemm::RowNorm
  cuda::DeviceBuffer correction;                     ///< [E]  f32
  cuda::DeviceBuffer hash_table;                     ///< [vocabulary, K]  i32
  cuda::DeviceBuffer expert_map;                     ///< [E]  i32
  cuda::DeviceBuffer shared_gate;                    ///< [H]  f32
  int vocabulary = 0;
  float input_scale1 = 1, input_scale2 = 1;  ///< of nvfp4 activations: FC1's and FC2's inputs
  float fused_factor = 1;                    ///< fused alpha: the largest global scale of `down`
  cuda::DeviceBuffer fused_alpha;            ///< [1]  it, times input_scale2

 private:
  GpuShape shape_;
  cuda::Context context_;
  std::unique_ptr<jit::Loader> loader_;
};

}  // namespace switchyard::moe
