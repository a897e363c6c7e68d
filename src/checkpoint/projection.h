#pragma once

#include <string>
#include <vector>

#include "checkpoint/schemes.h"
#include "switchyard/config.h"
#include "switchyard/weights.h"

namespace switchyard::checkpoint {

/// `rows` rows of a stored matrix: first, first + step, ...
struct PartRows {
  StoredMatrix matrix;
  std::int64_t first = 0, step = 1, rows = 0;
};

/// One ExpertMatrix, from one or two stored ones: gate above up, both of `rows` rows.
struct Projection {
  const LayerTensors* layer = nullptr;
  std::vector<PartRows> parts;
  const Leaf* bias[2] = {nullptr, nullptr};  ///< of each part; the same leaf twice if fused
  std::int64_t experts = 0, rows = 0, in = 0;
  bool gptq_v2 = false, symmetric = false;

  std::int64_t out() const noexcept { return rows * static_cast<std::int64_t>(parts.size()); }
  /// Two parts in two tensors, each with its own scales.
  bool split() const noexcept {
    return parts.size() == 2 && parts[0].matrix.elements != parts[1].matrix.elements;
  }
};

/// Which rows of each part, which columns, which experts.
struct Slice {
  std::int64_t expert = 0, experts = 0;
  std::int64_t row = 0, rows = 0;
  std::int64_t col = 0, cols = 0;
  bool bias = true;  ///< the down bias is added on one tensor-parallel rank only
};

Slice whole(const Projection& projection);

/// The format of a slice with `rows` rows a part.
/// Throws Unsupported if the parts are stored differently.
WeightFormat format_of(const Projection& projection, std::int64_t rows);

/// "modelopt nvfp4", "fp8 channel", "bf16"
std::string scheme_name(const Projection& projection);

/// What the checkpoint says the projection's inputs are rounded to; `plain` if it says nothing.
ActivationFormat input_format(const Projection& projection, const QuantConfig& quant,
                              ActivationFormat plain);

/// Bytes of all its tensors in the files.
std::int64_t stored_bytes(const Projection& projection);

/// Rows or columns that a slice must be a multiple of, so that it is whole scale groups.
std::int64_t row_group(const Projection& projection);
std::int64_t col_group(const Projection& projection);

}  // namespace switchyard::checkpoint
