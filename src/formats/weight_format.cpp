#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/check.h"
#include "switchyard/weights.h"

namespace switchyard {
namespace {

struct Named {
  std::string_view name;
  WeightFormat format;
};

constexpr Named kNamed[] = {
    {"f32", {.element = DType::f32}},
    {"bf16", {.element = DType::bf16}},
    {"fp16", {.element = DType::f16}},
    {"fp8_tensor", {.element = DType::f8_e4m3, .scaled = true}},
    {"fp8_channel", {.element = DType::f8_e4m3, .scaled = true, .scale_rows = 1}},
    {"fp8_block",
     {.element = DType::f8_e4m3, .scaled = true, .scale_rows = 128, .scale_cols = 128}},
    {"fp8_block32",
     {.element = DType::f8_e4m3,
      .scaled = true,
      .scale = DType::f8_e8m0,
      .scale_rows = 32,
      .scale_cols = 32}},
    {"mxfp8",
     {.element = DType::f8_e4m3,
      .scaled = true,
      .scale = DType::f8_e8m0,
      .scale_rows = 1,
      .scale_cols = 32}},
    {"nvfp4",
     {.element = DType::f4_e2m1,
      .scaled = true,
      .scale = DType::f8_e4m3,
      .scale_rows = 1,
      .scale_cols = 16,
      .global_scale = true}},
    {"mxfp4",
     {.element = DType::f4_e2m1,
      .scaled = true,
      .scale = DType::f8_e8m0,
      .scale_rows = 1,
      .scale_cols = 32}},
};

WeightFormat int4(int group, bool zero_points) {
  return {.element = DType::u4,
          .scaled = true,
          .scale = DType::bf16,
          .scale_rows = 1,
          .scale_cols = group,
          .zero_points = zero_points};
}

/// "int4", "int4_g32", "int4_g128_zp"
std::optional<WeightFormat> parse_int4(std::string_view name) {
  if (name == "int4") return int4(128, false);
  constexpr std::string_view kPrefix = "int4_g", kZeroPoints = "_zp";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  const bool zero_points = name.ends_with(kZeroPoints);
  if (zero_points) name.remove_suffix(kZeroPoints.size());
  int group = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), group);
  if (error != std::errc{} || end != name.data() + name.size() || name.front() == '0')
    return std::nullopt;
  if (group < 2 || group % 2 != 0) return std::nullopt;
  return int4(group, zero_points);
}

std::string extent(int count) {
  return count == 0 ? "*" : std::to_string(count);
}

}  // namespace

WeightFormat weight_format(std::string_view name) {
  for (const Named& named : kNamed)
    if (named.name == name) return named.format;
  const std::optional<WeightFormat> format = parse_int4(name);
  std::string names;
  if (!format)
    for (const Named& named : kNamed) names += fmt::format("{}, ", named.name);
  require(format.has_value(),
          "[weight_format] expected one of {}int4_gN (even N; int4_gN_zp with zero points), "
          "got '{}'.",
          names, name);
  return *format;
}

std::string to_string(const WeightFormat& format) {
  for (const Named& named : kNamed)
    if (named.format == format) return std::string(named.name);
  if (format.scale_cols > 0 && format == int4(format.scale_cols, format.zero_points))
    return fmt::format("int4_g{}{}", format.scale_cols, format.zero_points ? "_zp" : "");
  std::string text(name(format.element));
  if (format.scaled)
    text += fmt::format(" scale {} {}x{}", name(format.scale), extent(format.scale_rows),
                        extent(format.scale_cols));
  if (format.global_scale) text += " global";
  if (format.zero_points) text += " zero_points";
  return text;
}

ScaleBlock scale_block(const WeightFormat& format, std::int64_t out, std::int64_t in) noexcept {
  // Never 0, so that callers may divide by it for empty matrices too.
  return {.rows = std::max<std::int64_t>(1, format.scale_rows > 0 ? format.scale_rows : out),
          .cols = std::max<std::int64_t>(1, format.scale_cols > 0 ? format.scale_cols : in)};
}

std::int64_t ExpertMatrix::bytes() const noexcept {
  return elements.bytes() + scales.bytes() + zeros.bytes() + global_scale.bytes();
}

}  // namespace switchyard
