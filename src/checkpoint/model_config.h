#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::checkpoint {

using Json = nlohmann::json;

/// Replaces NaN, Infinity and -Infinity, which Python writes and JSON does not know, by
/// `before` + the word + `after`; by `before` alone if `after` is empty.
std::string replace_python_numbers(std::string_view text, std::string_view before,
                                   std::string_view after);

/// Parses JSON as Python writes it (NaN and Infinity become null).
/// Throws InvalidArgument, naming the file, unless it is an object.
Json parse_object(std::string_view text, std::string_view file);

/// The first of `keys` that is present and not null. Throws InvalidArgument for a wrong type.
std::optional<double> number(const Json& object, std::initializer_list<std::string_view> keys);
std::optional<int> count(const Json& object, std::initializer_list<std::string_view> keys);
std::optional<bool> flag(const Json& object, std::initializer_list<std::string_view> keys);
std::optional<std::string> text(const Json& object, std::initializer_list<std::string_view> keys);

/// What the checkpoint says about its quantisation, whichever tool wrote it.
struct QuantConfig {
  std::string method;     ///< modelopt, compressed-tensors, fp8, mxfp4, gptq, awq, ...; or empty
  std::string algorithm;  ///< ModelOpt's quant_algo, in capitals
  int group_size = 0;     ///< 0 = not said
  int block_rows = 0, block_cols = 0;  ///< weight_block_size or block_structure
  bool symmetric = false;              ///< GPTQ's "sym"
  bool gptq_v2 = false;                ///< zero points are stored as they are, not less one
  int input_bits = 0;                  ///< activations: 0 = not quantised, or not said
  bool input_dynamic = false;
  std::string input_strategy;  ///< token, tensor, group, tensor_group
  std::vector<std::string> ignore;

  /// Whether an exclude list names the module: plain name, `*` wildcards, or `re:` expression.
  bool ignores(std::string_view module) const;
};

/// config.json and hf_quant_config.json, as far as a MoE layer needs them.
struct ModelConfig {
  Json language;                         ///< text_config or the like, else the whole file
  std::vector<std::string> model_types;  ///< innermost first
  std::string dtype;                     ///< "bfloat16", "float16", "float32" or empty
  QuantConfig quant;
};

/// `quant_text` is hf_quant_config.json, or empty.
ModelConfig parse_model_config(std::string_view config_text, std::string_view quant_text);

}  // namespace switchyard::checkpoint
