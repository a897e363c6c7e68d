#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <utility>

#include "base/check.h"
#include "formats/convert.h"
#include "moe/plan.h"

namespace switchyard::moe {
namespace {

void expect(ConstTensorView view, std::string_view what, const Shape& shape) {
  if (view.shape != shape)  // every call comes here: no text unless it is needed
    throw InvalidArgument(fmt::format("[moe.run] {}: expected {}, got {}.", what, to_string(shape),
                                      view ? to_string(view.shape) : "none"));
  require(view || shape.elements() == 0, "[moe.run] {}: expected data, got a null pointer.", what);
  const auto address = reinterpret_cast<std::uintptr_t>(view.data);
  require(address % (static_cast<std::uintptr_t>(bits(view.dtype)) / 8) == 0,
          "[moe.run] {}: expected an address aligned to its {}, got {:#x}.", what, name(view.dtype),
          address);
}

void expect(ConstTensorView view, std::string_view what, const Shape& shape, DType type) {
  require(!view || view.dtype == type, "[moe.run] {}: expected {}, got {}. Cast it.", what,
          name(type), name(view.dtype));
  expect(view, what, shape);
}

void expect_float(ConstTensorView view, std::string_view what, const Shape& shape) {
  require(formats::is_plain_float(view.dtype),
          "[moe.run] {}: expected f32, bf16 or f16, got {}. Cast it.", what, name(view.dtype));
  expect(view, what, shape);
}

bool has_hash_table(const MoeState& layer) {
  return layer.gpu ? layer.gpu->vocabulary > 0 : static_cast<bool>(layer.weights.hash_table);
}

void check_input_ids(const MoeState& layer, ConstTensorView ids, std::int64_t tokens,
                     Memory memory) {
  require(has_hash_table(layer),
          "[moe.run] hash_table: hash routing needs the layer's table or expert_ids, got none.");
  require(ids.dtype == DType::i32 || ids.dtype == DType::i64,
          "[moe.run] input_ids: hash routing expects i32 or i64, got {}.", name(ids.dtype));
  expect(ids, "input_ids", {tokens});
  if (memory == Memory::device) return;  // the kernel drops and counts ids beyond the table
  const std::int64_t vocabulary =
      layer.gpu ? layer.gpu->vocabulary : layer.weights.hash_table.shape()[0];
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int64_t id =
        ids.dtype == DType::i32 ? ids.as<std::int32_t>()[t] : ids.as<std::int64_t>()[t];
    require(id >= 0 && id < vocabulary,
            "[moe.run] input_ids[{}]: expected an id in [0, {}), got {}.", t, vocabulary, id);
  }
}

void check_routing(const MoeState& layer, const MoeBuffers& b, std::int64_t tokens, Memory memory) {
  const Shape slots{tokens, layer.config.top_k};
  const bool given = b.expert_ids || b.expert_weights;
  if (given) {
    require(!b.router_logits,
            "[moe.run] router_logits: expected none beside expert_ids. Give one of them.");
    expect(b.expert_ids, "expert_ids", slots, DType::i32);
    expect(b.expert_weights, "expert_weights", slots, DType::f32);
    return;
  }
  if (b.router_logits) {
    expect_float(b.router_logits, "router_logits", {tokens, layer.scores()});
  } else {
    require(layer.weights.router || tokens == 0,
            "[moe.run] router_logits: expected logits, or expert_ids and expert_weights, because "
            "the layer has no router.");
  }
  if (layer.config.routing.method == RoutingMethod::hash && tokens > 0)
    check_input_ids(layer, b.input_ids, tokens, memory);
}

struct Range {
  std::string_view what;
  const std::byte* begin;
  std::int64_t bytes;
};

bool overlap(const Range& a, const Range& b) {
  return a.bytes > 0 && b.bytes > 0 && a.begin < b.begin + b.bytes && b.begin < a.begin + a.bytes;
}

Range range(std::string_view what, ConstTensorView view) {
  return {what, view.as<std::byte>(), view ? view.bytes() : 0};
}

/// Nothing that is written may overlap anything else.
void check_overlap(const MoeBuffers& b) {
  const std::array written = {
      range("out", b.out), range("chosen_ids", b.chosen_ids),
      range("chosen_weights", b.chosen_weights),
      Range{"workspace", b.workspace.data(), static_cast<std::int64_t>(b.workspace.size())}};
  const std::array read = {range("tokens", b.tokens), range("router_logits", b.router_logits),
                           range("expert_ids", b.expert_ids),
                           range("expert_weights", b.expert_weights),
                           range("input_ids", b.input_ids)};
  for (std::size_t i = 0; i < written.size(); ++i) {
    for (const Range& r : read) {
      require(!overlap(written[i], r), "[moe.run] {}: expected memory of its own, it overlaps {}.",
              written[i].what, r.what);
    }
    for (std::size_t j = i + 1; j < written.size(); ++j) {
      require(!overlap(written[i], written[j]),
              "[moe.run] {}: expected memory of its own, it overlaps {}.", written[i].what,
              written[j].what);
    }
  }
}

/// What GPU kernels ask for beyond the CPU's.
void check_gpu(const MoeState& layer, const PlanState& plan, const MoeBuffers& b) {
  const DType type = layer.gpu->shape().half == Half::fp16 ? DType::f16 : DType::bf16;
  for (const auto& [what, view] : {std::pair{"tokens", b.tokens}, {"out", ConstTensorView(b.out)}})
    require(view.dtype == type,
            "[moe.run] {}: expected {}, like the experts, on a GPU, got {}. Cast it.", what,
            name(type), name(view.dtype));
  if (b.expert_ids) return;
  const route::GpuProblem& routing = plan.gpu->logits_route.problem;
  if (const auto reason = route::gpu_declines(routing, layer.gpu->context().info()))
    throw Unsupported(fmt::format("[moe.run] router_logits: {}.", *reason));
}

void check_on_device(const MoeBuffers& b) {
  constexpr std::uintptr_t kAlignment = 16;
  for (const auto& [what, view] : {std::pair{"tokens", b.tokens}, {"out", ConstTensorView(b.out)}})
    require(reinterpret_cast<std::uintptr_t>(view.data) % kAlignment == 0,
            "[moe.run] {}: expected an address aligned to {} bytes, got {}.", what, kAlignment,
            view.data);
  require(
      b.expert_ids || b.router_logits,
      "[moe.run] router_logits: enqueue() expects logits, or expert_ids and expert_weights, got "
      "neither. Multiply the tokens by the router first.");
  if (b.token_count) expect(b.token_count, "token_count", {1}, DType::i32);
  if (b.counters) expect(b.counters, "counters", {3}, DType::i64);
}

}  // namespace

void check_arguments(const MoeState& layer, const PlanState& plan, const MoeBuffers& b,
                     Memory memory) {
  const MoeConfig& config = layer.config;
  if (b.tokens.shape.rank() != 2 || b.tokens.shape[1] != config.hidden)
    throw InvalidArgument(fmt::format(
        "[moe.run] tokens: expected [T, H] with H = {}, got {}. H comes from the config.",
        config.hidden, to_string(b.tokens.shape)));
  const std::int64_t tokens = b.tokens.shape[0];
  require(tokens <= plan.max_tokens,
          "[moe.run] tokens: expected at most {} tokens, got {}. Plan for more tokens.",
          plan.max_tokens, tokens);
  expect_float(b.tokens, "tokens", {tokens, config.hidden});
  expect_float(b.out, "out", {tokens, config.hidden});
  check_routing(layer, b, tokens, memory);
  const Shape slots{tokens, config.top_k};
  if (b.chosen_ids) expect(b.chosen_ids, "chosen_ids", slots, DType::i32);
  if (b.chosen_weights) expect(b.chosen_weights, "chosen_weights", slots, DType::f32);
  if (layer.gpu) check_gpu(layer, plan, b);
  const bool device = memory == Memory::device;
  require(device || (!b.token_count && !b.counters),
          "[moe.run] token_count, counters: expected none, they are for enqueue().");
  if (tokens == 0) return;
  if (device) check_on_device(b);
  if (layer.gpu && !device) return check_overlap(b);
  require(b.workspace.size() >= plan.workspace_bytes,
          "[moe.run] workspace: expected at least {} bytes, got {}.", plan.workspace_bytes,
          b.workspace.size());
  const std::uintptr_t alignment = device ? 256 : 64;
  require(reinterpret_cast<std::uintptr_t>(b.workspace.data()) % alignment == 0,
          "[moe.run] workspace: expected an address aligned to {} bytes, got {}.", alignment,
          static_cast<const void*>(b.workspace.data()));
  check_overlap(b);
}

}  // namespace switchyard::moe
