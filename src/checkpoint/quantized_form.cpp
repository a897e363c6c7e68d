#include "checkpoint/quantized_form.h"

#include <cstring>

#include "base/check.h"
#include "base/math.h"
#include "formats/convert.h"

namespace switchyard::checkpoint {
namespace {

using OrderedJson = nlohmann::ordered_json;

enum class Tool { none, compressed_tensors, modelopt, deepseek };

}  // namespace

/// A row of the table of what we write.
struct QuantizedForm::Row {
  std::string_view format;  ///< weight_format's name; "int4" stands for every group
  Tool tool;
  std::string_view elements;
  StoredType element_type;
  std::string_view scales;
  StoredType scale_type;
  std::string_view global;  ///< [1] (compressed-tensors: inverse) or [] (ModelOpt)
  std::string_view name;    ///< compressed-tensors' "format" or ModelOpt's "quant_algo"
  std::string_view weight_strategy, input_strategy;
};

using enum StoredType;

// clang-format off
const QuantizedForm::Row QuantizedForm::kRows[] = {
    // format       tool                      elements         type     scales              type
    {"f32",         Tool::none,               "weight",        F32,     "",                 F32,     "", "", "", ""},
    {"bf16",        Tool::none,               "weight",        BF16,    "",                 F32,     "", "", "", ""},
    {"fp16",        Tool::none,               "weight",        F16,     "",                 F32,     "", "", "", ""},
    {"nvfp4",       Tool::compressed_tensors, "weight_packed", U8,      "weight_scale",     F8_E4M3, "weight_global_scale", "nvfp4-pack-quantized", "tensor_group", ""},
    {"mxfp4",       Tool::compressed_tensors, "weight_packed", U8,      "weight_scale",     U8,      "", "mxfp4-pack-quantized", "group",   ""},
    {"mxfp8",       Tool::compressed_tensors, "weight",        F8_E4M3, "weight_scale",     U8,      "", "mxfp8-quantized",      "group",   "group"},
    {"fp8_channel", Tool::compressed_tensors, "weight",        F8_E4M3, "weight_scale",     F32,     "", "float-quantized",      "channel", "token"},
    {"fp8_tensor",  Tool::compressed_tensors, "weight",        F8_E4M3, "weight_scale",     F32,     "", "float-quantized",      "tensor",  "tensor"},
    {"int4",        Tool::compressed_tensors, "weight_packed", I32,     "weight_scale",     BF16,    "", "pack-quantized",       "group",   ""},
    {"fp8_block",   Tool::deepseek,           "weight",        F8_E4M3, "weight_scale_inv", F32,     "", "",                     "",        ""},
    {"nvfp4",       Tool::modelopt,           "weight",        U8,      "weight_scale",     F8_E4M3, "weight_scale_2", "W4A16_NVFP4", "", ""},
    {"fp8_channel", Tool::modelopt,           "weight",        F8_E4M3, "weight_scale",     F32,     "", "FP8_PER_CHANNEL_PER_TOKEN", "", ""},
    {"mxfp8",       Tool::modelopt,           "weight",        F8_E4M3, "weight_scale",     U8,      "", "MXFP8",                "",        ""},
};
// clang-format on

QuantizedForm::QuantizedForm(const WeightFormat& format, bool modelopt)
    : format_(format), row_(nullptr) {
  const std::string name = to_string(format);
  for (const Row& row : kRows) {
    const bool same = row.format == name || (row.format == "int4" && name.starts_with("int4_g"));
    const bool wanted = modelopt == (row.tool == Tool::modelopt) || row.tool == Tool::none;
    if (same && wanted && !row_) row_ = &row;
  }
  if (row_) return;
  std::string names;
  for (const Row& row : kRows)
    if (modelopt == (row.tool == Tool::modelopt))
      names += fmt::format("{}{}", names.empty() ? "" : ", ",
                           row.format == "int4" ? "int4_gN" : row.format);
  throw Unsupported(
      fmt::format("[checkpoint.quantize] format: expected one of {}{}, got {}. No other loader "
                  "reads that.",
                  names, modelopt ? " (ModelOpt's layouts)" : "", name));
}

std::vector<FormTensor> QuantizedForm::tensors(std::int64_t out, std::int64_t in) const {
  const std::int64_t per_cell = row_->element_type == U8 ? 2 : row_->element_type == I32 ? 8 : 1;
  const ScaleBlock block = scale_block(format_, out, in);
  const std::int64_t groups = ceil_div(in, block.cols);
  require(in % per_cell == 0 && (per_cell == 1 || in % block.cols == 0),
          "[checkpoint.quantize] expected rows of whole groups of {}, got {} columns. Choose "
          "another format.",
          std::max(block.cols, per_cell), in);
  std::vector<FormTensor> all = {{row_->elements, row_->element_type, {out, in / per_cell}}};
  if (!row_->scales.empty()) {
    Shape shape{ceil_div(out, block.rows), groups};
    if (is_tensor()) shape = {1};
    if (row_->tool == Tool::modelopt && row_->weight_strategy.empty() && groups == 1 &&
        format_.scale_cols == 0)
      shape = {out};
    all.push_back({row_->scales, row_->scale_type, shape});
  }
  if (!row_->global.empty())
    all.push_back({row_->global, F32, row_->tool == Tool::modelopt ? Shape{} : Shape{1}});
  if (format_.zero_points) {
    require(out % 8 == 0,
            "[checkpoint.quantize] int4 with zero points: expected rows in eights, got {}.", out);
    all.push_back({"weight_zero_point", I32, {out / 8, groups}});
  }
  if (row_->element_type == I32) all.push_back({"weight_shape", I64, {2}});
  return all;
}

std::vector<std::vector<std::byte>> QuantizedForm::bytes(const ExpertMatrix& matrix,
                                                         std::int64_t row, std::int64_t out) const {
  std::vector<std::vector<std::byte>> all;
  const std::int64_t in = matrix.in();
  const auto rows_of = [&](const Tensor& tensor, std::int64_t first, std::int64_t count,
                           std::int64_t rows) {
    const std::int64_t bytes = tensor.bytes() / rows;
    const auto* const begin = tensor.as<std::byte>() + first * bytes;
    all.emplace_back(begin, begin + count * bytes);
  };
  rows_of(matrix.elements, row, out, matrix.out());
  if (!row_->scales.empty()) {
    const ScaleBlock block = scale_block(format_, matrix.out(), in);
    const std::int64_t scale_rows = matrix.scales.shape()[1];
    if (is_tensor())
      rows_of(matrix.scales, 0, 1, 1);
    else
      rows_of(matrix.scales, row / block.rows, ceil_div(out, block.rows), scale_rows);
  }
  if (!row_->global.empty()) {
    float scale = matrix.global_scale.as<float>()[0];
    if (row_->tool == Tool::compressed_tensors) scale = 1 / scale;
    const auto* const begin = reinterpret_cast<const std::byte*>(&scale);
    all.emplace_back(begin, begin + sizeof scale);
  }
  if (format_.zero_points) {
    const std::int64_t groups = matrix.zeros.shape()[2];
    std::vector<std::byte> words(static_cast<std::size_t>(out / 8 * groups * 4));
    for (std::int64_t r = 0; r < out; ++r)
      for (std::int64_t g = 0; g < groups; ++g) {
        const unsigned zero = matrix.zeros.as<std::uint8_t>()[(row + r) * groups + g];
        std::byte& pair = words[static_cast<std::size_t>((r / 8 * groups + g) * 4 + r % 8 / 2)];
        pair |= std::byte(r % 2 == 0 ? zero : zero << 4);
      }
    all.push_back(std::move(words));
  }
  if (row_->element_type == I32) {
    const std::int64_t shape[2] = {out, in};
    const auto* const begin = reinterpret_cast<const std::byte*>(shape);
    all.emplace_back(begin, begin + sizeof shape);
  }
  return all;
}

OrderedJson QuantizedForm::config(const std::vector<std::string>& ignore) const {
  if (row_->tool == Tool::none) return nullptr;
  if (row_->tool == Tool::deepseek)
    return {{"quant_method", "fp8"},
            {"fmt", "e4m3"},
            {"activation_scheme", "dynamic"},
            {"weight_block_size", {format_.scale_rows, format_.scale_cols}},
            {"modules_to_not_convert", ignore}};
  const bool integer = format_.element == DType::u4;
  const bool four = integer || format_.element == DType::f4_e2m1;
  const OrderedJson group = format_.scale_cols > 0 ? OrderedJson(format_.scale_cols) : nullptr;
  OrderedJson weights = {{"num_bits", four ? 4 : 8}, {"type", integer ? "int" : "float"}};
  if (row_->tool == Tool::modelopt) {
    weights["dynamic"] = false;
    if (!group.is_null()) weights["group_size"] = group;
    return {{"config_groups",
             {{"group_0",
               {{"input_activations", nullptr}, {"weights", weights}, {"targets", {"Linear"}}}}}},
            {"ignore", ignore},
            {"quant_algo", row_->name},
            {"producer", {{"name", "switchyard"}}},
            {"quant_method", "modelopt"}};
  }
  weights["strategy"] = row_->weight_strategy;
  weights["group_size"] = group;
  weights["symmetric"] = !format_.zero_points;
  weights["dynamic"] = false;
  if (format_.scale == DType::f8_e8m0) weights["scale_dtype"] = "torch.uint8";
  if (format_.scale == DType::f8_e4m3) weights["scale_dtype"] = "torch.float8_e4m3fn";
  OrderedJson input = nullptr;
  if (!row_->input_strategy.empty()) {
    input = {{"num_bits", 8},
             {"type", "float"},
             {"strategy", row_->input_strategy},
             {"symmetric", true},
             {"dynamic", true},
             {"group_size", row_->input_strategy == "group" ? group : nullptr}};
    if (format_.scale == DType::f8_e8m0) input["scale_dtype"] = "torch.uint8";
  }
  return {{"config_groups",
           {{"group_0",
             {{"format", row_->name},
              {"targets", {"Linear"}},
              {"weights", weights},
              {"input_activations", input},
              {"output_activations", nullptr}}}}},
          {"format", row_->name},
          {"ignore", ignore},
          {"kv_cache_scheme", nullptr},
          {"quant_method", "compressed-tensors"},
          {"quantization_status", "compressed"}};
}

OrderedJson QuantizedForm::modelopt_file(const std::vector<std::string>& ignore) const {
  if (row_->tool != Tool::modelopt) return nullptr;
  OrderedJson quantization = {{"quant_algo", row_->name}, {"kv_cache_quant_algo", nullptr}};
  if (format_.scale_cols > 0) quantization["group_size"] = format_.scale_cols;
  quantization["exclude_modules"] = ignore;
  return {{"producer", {{"name", "switchyard"}}}, {"quantization", quantization}};
}

}  // namespace switchyard::checkpoint
