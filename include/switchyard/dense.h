#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "switchyard/device.h"
#include "switchyard/dtype.h"
#include "switchyard/weights.h"

/// The DenseGEMM family on a GPU, for engines that bring their own flow: every token times every
/// expert, NVFP4 x NVFP4. ops.h has the same for host arrays, and says what is computed.
namespace switchyard::dense {

enum class Phase { fc1, fc2 };

struct Problem {
  Phase phase = Phase::fc2;
  int tokens = 0;  ///< T, at most
  int experts = 0, hidden = 0, intermediate = 0;
  DType out = DType::bf16;  ///< bf16 | f16 | f32, FC1 also f4_e2m1
  bool alpha_post = false;  ///< FC1: a factor a token and expert behind the activation
};

/// Why a problem is not served: a word for programs, "SM_UNSUPPORTED", "DTYPE_UNSUPPORTED",
/// "SHAPE_UNALIGNED" or "SHAPE_TOO_LARGE", and a sentence for people.
struct Decline {
  std::string reason, text;
};
std::optional<Decline> declines(const Problem& problem, Device device = Device::cuda());

/// Names of every way to compute `problem`, best guess first; all give the same up to rounding, and
/// each the same bits every time. Empty if it is declined.
///
/// "(256,32)(2,1) wgmma depth 4 stages 5 x1 sk2 swap1": rows of weights and tokens of a tile, CTAs
/// that share tokens, instruction, ring, CTAs an SM, parts that a sum over experts is cut into
/// (even: as many as give every CTA the same work), weights as the A operand.
std::vector<std::string> tactics(const Problem& problem, Device device = Device::cuda());

/// Device arrays of one call. Scales are swizzled 128x4 (ops.h).
struct Call {
  int tokens = 0;                     ///< T, 0 .. Problem::tokens
  const void* x = nullptr;            ///< [T, H] or [T, E I]  f4_e2m1, 8-byte aligned
  const void* x_scales = nullptr;     ///< [T, H / 16] or [T, E I / 16]
  const float* alpha = nullptr;       ///< FC1: [E]; FC2: [T, E], or [E, T] if token_major
  bool token_major = false;           ///< FC2
  const float* alpha_post = nullptr;  ///< [T, E]  FC1, if the problem has it
  const int* experts = nullptr;  ///< null, or [1 + E]  i32: how many experts count, and their ids
                                 ///< in rising order. FC1 leaves the others' outputs as they are
  float norm_const = 1;          ///< encode scale of a f4_e2m1 output
  void* out = nullptr;           ///< [T, E I] or [T, H]  16-byte aligned
  void* out_scales = nullptr;    ///< [T, E I / 16]  f4_e2m1 output only
  void* workspace = nullptr;     ///< workspace_bytes(), 256-byte aligned; may hold anything
};

/// Weights on a GPU, and how they are multiplied.
class Gemm {
 public:
  /// `weights` is nvfp4 [E, 2I, H], gate first, or [E, H, I]; its global scale is not applied, it
  /// is part of alpha. Compiles what is not cached. Throws Unsupported, with the reason, if the
  /// problem is declined or `tactic` is none of its tactics; InvalidArgument if the weights do not
  /// fit.
  Gemm(const Problem& problem, const ExpertMatrix& weights, Device device = Device::cuda(),
       std::string_view tactic = {});
  Gemm(Gemm&&) noexcept;
  Gemm& operator=(Gemm&&) noexcept;
  ~Gemm();  ///< waits for the device

  /// Another tactic, the same weights.
  void use(std::string_view tactic);
  const std::string& tactic() const noexcept;
  std::size_t workspace_bytes() const noexcept;

  /// Enqueues and returns; allocates nothing, and may be captured into a graph. Throws
  /// InvalidArgument, before anything is enqueued, for a null array or a wrong number of tokens.
  void enqueue(const Call& call, Stream stream) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace switchyard::dense
