#pragma once

#include "cuda/memory.h"
#include "ops/dense_moe/plan.h"

/// A dense GEMM on a GPU: a problem, a tactic, its kernels.
namespace switchyard::dense_moe {

/// Device arrays of a call. Activations as ops.h has them, weights as tiles (ops/repack), gate_up
/// in RowOrder::gate_up.
struct GpuOperands {
  const std::byte* weights;
  const std::byte *x = nullptr, *x_scales = nullptr;
  const std::uint16_t* tokens = nullptr;    ///< FC1, instead of x: bf16, quantised on the way
  float encode_scale = 1;                   ///< of `tokens`
  const float* alpha;                       ///< FC1 [E, alpha_parts]; FC2 [T, E] at the strides
  int alpha_parts = 1;                      ///< FC1: 2 if gate and up have one each
  float alpha_factor = 1;                   ///< FC1: of all of alpha
  int token_stride = 0, expert_stride = 0;  ///< FC2; 0: all the same
  const float* alpha_post = nullptr;        ///< FC1, if the problem has it
  const int* experts = nullptr;  ///< [1 + E]: how many count, and which in rising order; null: all
  float norm_const = 1;
  std::byte* out;
  std::byte* out_scales = nullptr;
};

class GpuGemm {
 public:
  /// Compiles and loads. Throws Unsupported, with the reason, if `problem` or `tactic` is declined.
  GpuGemm(const cuda::Context& context, jit::Loader& loader, const GpuProblem& problem,
          const std::optional<Tactic>& tactic = std::nullopt);
  /// With the kernel of program(tactic.config).
  GpuGemm(const cuda::DeviceInfo& device, const GpuProblem& problem, const Tactic& tactic,
          jit::Kernel kernel);

  const Tactic& tactic() const noexcept { return tactic_; }
  std::size_t scratch_bytes() const noexcept { return static_cast<std::size_t>(scratch_.bytes); }

  /// Enqueues a call of `tokens` tokens, at most the problem's. `scratch` may hold anything, and is
  /// 256-byte aligned. The context is current. Allocates nothing.
  void enqueue(int tokens, const GpuOperands& operands, std::byte* scratch,
               cuda::CUstream stream) const;

 private:
  GpuProblem problem_;
  Tactic tactic_;
  Scratch scratch_;
  jit::Launch launch_;
};

}  // namespace switchyard::dense_moe
