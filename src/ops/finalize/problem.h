#pragma once

#include <cstdint>
#include <span>

namespace switchyard::finalize {

/// The definition: out[t, :] = sum over j in order of weight[t, j] * expert_out[row of (t, j), :].
///
///   expert_out  [R, H]      rows  [R]  token * K + slot      weights  [T, K]      out  [T, H]
void reference(std::span<const double> expert_out, std::span<const std::int32_t> rows,
               std::span<const double> weights, int top_k, std::span<double> out);

}  // namespace switchyard::finalize
