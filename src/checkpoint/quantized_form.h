#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/stored_type.h"
#include "switchyard/checkpoint.h"

namespace switchyard::checkpoint {

/// One tensor of a quantised matrix [out, in] as other loaders look for it: BASE.KEY.
struct FormTensor {
  std::string_view key;
  StoredType type;
  Shape shape;
};

/// How a format is written: names, types and the config that announces them.
class QuantizedForm {
 public:
  /// Throws Unsupported for a format that no published layout holds.
  QuantizedForm(const WeightFormat& format, bool modelopt);

  /// Gate and up share one scale that loaders expect to be the same: quantise them together.
  bool joint() const noexcept { return format_.global_scale || is_tensor(); }
  std::vector<FormTensor> tensors(std::int64_t out, std::int64_t in) const;
  /// The bytes of those tensors, in the same order, for rows [row, row + out) of a matrix of one
  /// expert.
  std::vector<std::vector<std::byte>> bytes(const ExpertMatrix& matrix, std::int64_t row,
                                            std::int64_t out) const;
  /// config.json's quantization_config; null for unquantised formats.
  nlohmann::ordered_json config(const std::vector<std::string>& ignore) const;
  /// hf_quant_config.json; null unless ModelOpt's.
  nlohmann::ordered_json modelopt_file(const std::vector<std::string>& ignore) const;

 private:
  bool is_tensor() const noexcept {
    return format_.scaled && format_.scale_rows == 0 && format_.scale_cols == 0;
  }
  WeightFormat format_;
  struct Row;
  const Row* row_;
  static const Row kRows[];
};

}  // namespace switchyard::checkpoint
