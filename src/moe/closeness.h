#pragma once

#include <cstddef>
#include <span>

namespace switchyard::moe {

/// What `actual` may differ from `exact` by, in units of what an honest run differs by.
struct Closeness {
  double worst_ratio = 0;  ///< at most 2 passes
  std::size_t worst = 0;   ///< index of that element
  double max_abs_error = 0;
  bool finite_match = true;  ///< NaN and infinities in the same places
  double zeros = 0;          ///< share of exact zeros in `exact`
};

/// Compares [rows, cols], each row with an allowance of its own, so that a loud token cannot hide a
/// quiet one: the honest run's largest error relative to the row's largest value, and at least what
/// the median row has, because a short row may round luckily. An empty array gives ratio 0.
///
/// `rounded` is the same formula with the kernel's rounding points except the output's own, for
/// which `half_step` of the row's largest value is added (2^-9 for bf16): where that rounding falls
/// is chance, and an honest run must not look better for having been lucky. It is 0 for an honest
/// run whose output is rounded.
Closeness compare(std::span<const double> actual, std::span<const double> rounded,
                  std::span<const double> exact, std::size_t rows, double half_step);

}  // namespace switchyard::moe
