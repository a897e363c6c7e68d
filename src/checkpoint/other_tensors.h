#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/catalogue.h"
#include "checkpoint/model_config.h"
#include "checkpoint/projection.h"
#include "checkpoint/tensor_file.h"

namespace switchyard::checkpoint {

/// A tensor that is no routed expert's: copied as it is, or a quantised matrix decoded to BF16, so
/// that the written checkpoint has one kind of quantisation.
struct OtherTensor {
  std::string name;
  StoredType type = StoredType::BF16;
  Shape shape;
  Place place;                                ///< of the bytes to copy; or
  std::shared_ptr<const LayerTensors> group;  ///< the matrix to decode, and its tensors
  StoredMatrix matrix;
};

/// By shard, the tensors of all shards that belong to no routed expert of `catalogue.layers`.
std::vector<std::vector<OtherTensor>> other_tensors(const Catalogue& catalogue,
                                                    const QuantConfig& quant);

/// Appends the tensor's bytes.
void copy_tensor(const Catalogue& catalogue, const OtherTensor& tensor, TensorWriter& writer);

/// config.json's text with `quantisation` (JSON; "null" = none) as its quantization_config. Keeps
/// the order of the keys, and Python's Infinity and NaN.
std::string with_quantisation(std::string_view config, std::string_view quantisation);

}  // namespace switchyard::checkpoint
