#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ops/grouped_gemm/simd.h"
#include "switchyard/tensor.h"
#include "switchyard/weights.h"

/// The expert GEMM on a CPU: y[r, :] = x[r, :] . w[e]^T * global for the rows r of expert e.
namespace switchyard::grouped_gemm {

/// Which build of the inner loops runs. `best()` asks the CPU.
enum class Isa { baseline, avx2 };
Isa best_isa() noexcept;
std::string_view name(Isa isa) noexcept;
bool supported(Isa isa) noexcept;

/// How weights meet activations. f32: weights are decoded to f32. fixed: 4-bit weights stay small
/// integers, activations become 16-bit fixed point (simd.h). automatic: fixed for groups of at
/// most kFixedTokens rows where it is not declined, else f32.
enum class Method { automatic, f32, fixed };

/// Above this many rows of one expert, decoding to f32 once beats decoding to integers for every
/// four rows (measured on Zen 3).
inline constexpr std::int64_t kFixedTokens = 32;

/// What a test may force; a plan takes the defaults.
struct Choice {
  Isa isa = best_isa();
  Method method = Method::automatic;
};

/// What the activations hold, which decides whether 16-bit fixed point keeps it.
enum class Precision { f32, bf16 };

/// Why `fixed` cannot serve weights of this kind; empty when it can.
std::optional<std::string> fixed_declines(const ExpertMatrix& w, Isa isa, Precision precision);

/// A matrix [E, out, in] with the way it is multiplied decided. Points into the matrix's tensors.
class CpuGemm {
 public:
  CpuGemm() = default;
  /// Throws Unsupported if `choice` forces what the matrix or this CPU cannot do.
  CpuGemm(const ExpertMatrix& matrix, Precision precision, Choice choice = {});
  /// A plain matrix [out, in]  f32 | bf16 | f16
  explicit CpuGemm(ConstTensorView matrix, Choice choice = {});

  /// "avx2 fixed16 up to 32 rows an expert, else f32"
  std::string variant() const;
  bool may_use_fixed() const noexcept { return method_ != Method::f32; }
  std::int64_t out() const noexcept { return first_.out; }
  std::int64_t in() const noexcept { return first_.in; }

  /// A group of rows of one expert is multiplied by tasks() calls of run().
  std::int64_t tasks() const noexcept;

  /// Activation rows: f32 always, fixed if may_use_fixed().
  struct Rows {
    FloatRows f32;
    FixedRows fixed;
    const std::int32_t* index = nullptr;  ///< [rows of the group], null = 0, 1, ...
  };
  /// y[t * out + r] for all `rows` tokens t and the rows r of `task`.
  void run(std::int64_t expert, std::int64_t task, const Rows& x, std::int64_t rows,
           float* y) const;

 private:
  void choose(Choice choice, const std::optional<std::string>& fixed_declined);
  MatrixView view(std::int64_t expert) const;

  MatrixView first_;                   // of expert 0
  std::int64_t scale_rows_total_ = 0;  // rows of scales of one expert
  const float* global_ = nullptr;      // [E, parts]
  std::int64_t parts_ = 1;
  const Kernels* kernels_ = &kBaseline;
  Isa isa_ = Isa::baseline;
  Method method_ = Method::f32;
};

/// Columns that a row of f32 or fixed-point activations takes, padding included.
std::int64_t padded_columns(std::int64_t in) noexcept;
/// FixedPanels that a row takes.
std::int64_t panels(std::int64_t in) noexcept;
/// Zeros the padding of a row of f32.
void pad_row(float* row, std::int64_t in) noexcept;
/// The fixed-point form of a padded row of `in` columns.
void to_fixed(const float* row, std::int64_t in, FixedPanel* to) noexcept;

}  // namespace switchyard::grouped_gemm
