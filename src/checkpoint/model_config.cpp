#include "checkpoint/model_config.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <regex>

#include "base/check.h"

namespace switchyard::checkpoint {
namespace {

/// Keys under which models that see or hear keep their language model, outermost first.
constexpr std::string_view kNested[] = {"thinker_config", "text_config", "language_config",
                                        "llm_config"};

/// nlohmann's parser recurses: a file of brackets alone would exhaust the stack.
void check_depth(std::string_view text, std::string_view file) {
  constexpr int kMaxDepth = 256;
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (quoted && text[i] == '\\')
      ++i;
    else if (text[i] == '"')
      quoted = !quoted;
    else if (!quoted && (text[i] == '[' || text[i] == '{'))
      ++depth;
    else if (!quoted && (text[i] == ']' || text[i] == '}'))
      --depth;
    require(depth <= kMaxDepth, "[checkpoint] {}: expected JSON at most {} deep, got more.", file,
            kMaxDepth);
  }
}

const Json* find(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto place = object.find(key);
  return place == object.end() || place->is_null() ? nullptr : &*place;
}

template <class Accepts>
const Json* find_first(const Json& object, std::initializer_list<std::string_view> keys,
                       std::string_view what, Accepts accepts) {
  for (const std::string_view key : keys) {
    const Json* const value = find(object, key);
    if (!value) continue;
    require(accepts(*value), "[checkpoint] config.json: {}: expected {}, got {}. Correct the file.",
            key, what, value->dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 80));
    return value;
  }
  return nullptr;
}

/// Matches `*` and nothing else.
bool matches_wildcard(std::string_view pattern, std::string_view name) {
  std::size_t p = 0, n = 0, star = std::string_view::npos, mark = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool matches_expression(const std::string& expression, std::string_view name) {
  constexpr std::size_t kMaxExpression = 1000;  // std::regex recurses
  if (expression.size() > kMaxExpression) return false;
  try {
    // Python's re.match: anchored at the start alone.
    return std::regex_search(name.begin(), name.end(), std::regex(expression),
                             std::regex_constants::match_continuous);
  } catch (const std::regex_error&) {
    return false;
  }
}

void read_names(const Json& object, std::string_view key, std::vector<std::string>& names) {
  const Json* const list = find(object, key);
  if (!list || !list->is_array()) return;
  for (const Json& entry : *list)
    if (entry.is_string()) names.push_back(entry.get<std::string>());
}

/// {"num_bits", "group_size", "block_structure", "dynamic", "strategy"} of one group.
void read_group(const Json& group, QuantConfig& quant) {
  if (const Json* const weights = find(group, "weights")) {
    quant.group_size = count(*weights, {"group_size"}).value_or(quant.group_size);
    quant.symmetric = flag(*weights, {"symmetric"}).value_or(quant.symmetric);
    const Json* const block = find(*weights, "block_structure");
    if (block && block->is_array() && block->size() == 2 && (*block)[0].is_number_integer() &&
        (*block)[1].is_number_integer()) {
      quant.block_rows = (*block)[0].get<int>();
      quant.block_cols = (*block)[1].get<int>();
    }
  }
  if (const Json* const input = find(group, "input_activations")) {
    quant.input_bits = count(*input, {"num_bits"}).value_or(0);
    const Json* const dynamic = find(*input, "dynamic");  // true, false or "local"
    quant.input_dynamic = dynamic && !(dynamic->is_boolean() && !dynamic->get<bool>());
    quant.input_strategy = text(*input, {"strategy"}).value_or("");
  }
}

void read_quantisation(const Json& object, QuantConfig& quant) {
  quant.method = text(object, {"quant_method"}).value_or(quant.method);
  quant.algorithm = text(object, {"quant_algo", "moe_quant_algo"}).value_or(quant.algorithm);
  quant.algorithm = text(object, {"moe_quant_algo"}).value_or(quant.algorithm);
  std::transform(quant.algorithm.begin(), quant.algorithm.end(), quant.algorithm.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  quant.group_size = count(object, {"group_size", "q_group_size"}).value_or(quant.group_size);
  quant.symmetric = flag(object, {"sym"}).value_or(quant.symmetric);
  quant.gptq_v2 = text(object, {"checkpoint_format"}).value_or("") == "gptq_v2";
  const Json* const block = find(object, "weight_block_size");
  if (block && block->is_array() && block->size() == 2 && (*block)[0].is_number_integer() &&
      (*block)[1].is_number_integer()) {
    quant.block_rows = (*block)[0].get<int>();
    quant.block_cols = (*block)[1].get<int>();
  }
  const std::string scheme = text(object, {"activation_scheme"}).value_or("");
  if (quant.method == "fp8" && !scheme.empty()) {
    quant.input_bits = 8;
    quant.input_dynamic = scheme == "dynamic";
    quant.input_strategy = quant.block_cols > 0 ? "group" : "token";
  }
  for (const std::string_view key : {"ignore", "exclude_modules", "modules_to_not_convert"})
    read_names(object, key, quant.ignore);
  const Json* const groups = find(object, "config_groups");
  if (groups && groups->is_object())
    for (const auto& [name, group] : groups->items()) read_group(group, quant);
}

}  // namespace

std::string replace_python_numbers(std::string_view text, std::string_view before,
                                   std::string_view after) {
  std::string result;
  result.reserve(text.size());
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string_view word;
    for (const std::string_view candidate : {"-Infinity", "Infinity", "NaN"})
      if (!quoted && word.empty() && text.substr(i).starts_with(candidate)) word = candidate;
    if (!word.empty()) {
      result += before;
      if (!after.empty()) result.append(word).append(after);
      i += word.size() - 1;
      continue;
    }
    if (quoted && text[i] == '\\' && i + 1 < text.size()) result += text[i++];
    if (text[i] == '"') quoted = !quoted;
    result += text[i];
  }
  return result;
}

Json parse_object(std::string_view text, std::string_view file) {
  check_depth(text, file);
  const std::string cleaned = replace_python_numbers(text, "null", "");
  Json json = Json::parse(cleaned, nullptr, /*allow_exceptions=*/false);
  require(json.is_object(), "[checkpoint] {}: expected a JSON object, got {}. Download it again.",
          file, json.is_discarded() ? "damaged JSON" : json.type_name());
  return json;
}

std::optional<double> number(const Json& object, std::initializer_list<std::string_view> keys) {
  const Json* const value =
      find_first(object, keys, "a number", [](const Json& json) { return json.is_number(); });
  return value ? std::optional(value->get<double>()) : std::nullopt;
}

std::optional<int> count(const Json& object, std::initializer_list<std::string_view> keys) {
  constexpr double kMax = 1 << 30;
  const Json* const value = find_first(object, keys, "a whole number", [](const Json& json) {
    return json.is_number() && std::abs(json.get<double>()) <= kMax &&
           json.get<double>() == std::floor(json.get<double>());
  });
  return value ? std::optional(static_cast<int>(value->get<double>())) : std::nullopt;
}

std::optional<bool> flag(const Json& object, std::initializer_list<std::string_view> keys) {
  const Json* const value =
      find_first(object, keys, "true or false", [](const Json& json) { return json.is_boolean(); });
  return value ? std::optional(value->get<bool>()) : std::nullopt;
}

std::optional<std::string> text(const Json& object, std::initializer_list<std::string_view> keys) {
  const Json* const value =
      find_first(object, keys, "a string", [](const Json& json) { return json.is_string(); });
  return value ? std::optional(value->get<std::string>()) : std::nullopt;
}

bool QuantConfig::ignores(std::string_view module) const {
  constexpr std::string_view kExpression = "re:";
  return std::any_of(ignore.begin(), ignore.end(), [&](const std::string& pattern) {
    if (pattern.starts_with(kExpression))
      return matches_expression(pattern.substr(kExpression.size()), module);
    return matches_wildcard(pattern, module);
  });
}

ModelConfig parse_model_config(std::string_view config_text, std::string_view quant_text) {
  ModelConfig config;
  config.language = parse_object(config_text, "config.json");
  const auto take = [&](const Json& object) {
    if (const auto type = text(object, {"model_type"}))
      config.model_types.insert(config.model_types.begin(), *type);
    config.dtype = text(object, {"dtype", "torch_dtype"}).value_or(config.dtype);
    if (const Json* const quant = find(object, "quantization_config"))
      read_quantisation(*quant, config.quant);
  };
  take(config.language);
  for (const std::string_view key : kNested) {
    const Json* const nested = find(config.language, key);
    if (!nested || !nested->is_object()) continue;
    take(*nested);
    Json inner = *nested;  // a copy: the assignment destroys its owner
    config.language = std::move(inner);
  }
  if (!quant_text.empty()) {
    const Json file = parse_object(quant_text, "hf_quant_config.json");
    if (const Json* const quant = find(file, "quantization")) {
      if (config.quant.method.empty()) config.quant.method = "modelopt";
      read_quantisation(*quant, config.quant);
    }
  }
  return config;
}

}  // namespace switchyard::checkpoint
