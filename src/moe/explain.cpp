#include <fmt/format.h>

#include <iterator>

#include "moe/plan.h"

namespace switchyard::moe {
namespace {

/// "2.5 GiB", "1.5 MiB", "12.0 KiB", "300 B"
std::string bytes_text(std::int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= 1 << 30) return fmt::format("{:.1f} GiB", value / (1 << 30));
  if (bytes >= 1 << 20) return fmt::format("{:.1f} MiB", value / (1 << 20));
  if (bytes >= 1 << 10) return fmt::format("{:.1f} KiB", value / (1 << 10));
  return fmt::format("{} B", bytes);
}

std::string flops_text(std::int64_t flops) {
  const auto value = static_cast<double>(flops);
  if (flops >= 1'000'000'000) return fmt::format("{:.1f} GFLOP", value * 1e-9);
  return flops == 0 ? "-" : fmt::format("{:.1f} MFLOP", value * 1e-6);
}

/// "    17.3 us  "; empty where no time is expected
std::string time_text(double us) {
  return us > 0 ? fmt::format("{:>8.1f} us  ", us) : "";
}

}  // namespace

std::string explain(std::string_view device, const PlanState& plan) {
  std::string text;
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "plan for at most {} tokens on {}, workspace {}\n", plan.max_tokens, device,
                 bytes_text(static_cast<std::int64_t>(plan.workspace_bytes)));
  double expected_us = 0;
  for (const Step& step : plan.steps) {
    fmt::format_to(out, "  {:<12}  {:>10}  {:>14}  {}[{}, {})  {}\n", step.op,
                   bytes_text(step.bytes), flops_text(step.flops), time_text(step.expected_us),
                   step.out.offset, step.out.offset + step.out.bytes, step.variant);
    expected_us += step.expected_us;
  }
  if (expected_us > 0)
    fmt::format_to(out, "  expected {:.1f} us in all, with every expert as likely\n", expected_us);
  for (const std::string& reason : plan.declined)
    fmt::format_to(out, "  declined      {}\n", reason);
  return text;
}

}  // namespace switchyard::moe
