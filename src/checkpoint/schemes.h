#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "checkpoint/catalogue.h"
#include "checkpoint/families.h"
#include "checkpoint/model_config.h"

namespace switchyard::checkpoint {

/// How a matrix [out, in] lies in its elements tensor.
enum class Encoding {
  plain,         ///< [out, in], an element a value
  pairs,         ///< [out, in / 2] bytes, even column low: E2M1, or INT4 plus 8
  signed_pairs,  ///< the same with two's complement nibbles
  gptq,          ///< I32 [in / 8, out], low nibble first
  awq,           ///< I32 [in, out / 8], nibbles in the order 0 2 4 6 1 3 5 7
  row_pairs,     ///< [out / 2, in] bytes, even row low, two's complement
};

/// How a quantisation scheme names its tensors. "" = it has none of the kind.
struct Scheme {
  std::string_view name;
  std::string_view elements;
  std::uint32_t element_types;  ///< set of StoredType
  std::string_view scales;
  std::uint32_t scale_types;
  Encoding encoding;
  int group = 0;  ///< columns of a scale where the scheme fixes it; 0 = see the shape
  std::string_view global = "";  ///< one more scale
  std::string_view input_scale = "";
  bool inverse = false;  ///< global and input scale divide, not multiply
  std::string_view zeros = "";
  std::string_view groups = "";        ///< group of each column (act order)
  std::string_view input_factor = "";  ///< multiplies the input
};

/// Whose matrices a base name stands for.
enum class Holder {
  numbered,  ///< experts.E.BASE.KEY, a matrix each
  fused,     ///< BASE_KEY or BASE.KEY, all experts in one tensor
  single,    ///< BASE.KEY, one matrix: a shared expert, a projection
};

/// One matrix of every expert as it is stored: which tensors, how they are laid out.
struct StoredMatrix {
  const Scheme* scheme = nullptr;
  Holder holder = Holder::single;
  bool columns = false;  ///< [in, out] instead of [out, in]
  std::int64_t experts = 1, out = 0, in = 0;
  std::int64_t scale_rows = 0, scale_cols = 0;  ///< of one scale; 0 = all
  const Leaf* elements = nullptr;
  const Leaf* scales = nullptr;
  const Leaf* global = nullptr;
  const Leaf* zeros = nullptr;
  const Leaf* groups = nullptr;
  const Leaf* input_scale = nullptr;
  const Leaf* input_factor = nullptr;
};

struct MatrixName {
  std::string base;
  Holder holder = Holder::single;
  std::int64_t out = -1, in = -1;       ///< what is known of the shape; -1 = read it
  FusedOrder fused = FusedOrder::rows;  ///< if the shape of a fused tensor does not tell
};

/// Whether the layer has elements under that name, in any scheme.
bool has_matrix(const LayerTensors& layer, const MatrixName& name);

/// Finds the scheme by the tensors that are there, then by the config.
/// Throws InvalidArgument naming the tensor that is missing or has the wrong type or shape,
/// Unsupported if no scheme fits, naming the keys that were looked for.
StoredMatrix find_matrix(const LayerTensors& layer, const MatrixName& name,
                         const QuantConfig& quant);

/// Throws InvalidArgument unless the leaf has this matrix of every expert, naming the first gap.
void check_complete(const LayerTensors& layer, const Leaf& leaf, std::int64_t experts);

}  // namespace switchyard::checkpoint
