#include "cli/run_input.h"

#include <fmt/format.h>

#include <bit>
#include <random>
#include <utility>

#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

namespace switchyard::cli {
namespace {

/// The sum of 12 uniform numbers less 6: mean 0, variance 1, and the same everywhere, which
/// std::normal_distribution is not.
float random_normal(std::mt19937_64& engine) {
  float sum = -6;
  for (int i = 0; i < 12; ++i) sum += static_cast<float>(engine() >> 40) * 0x1p-24F;
  return sum;
}

}  // namespace

RunInput read_input(const std::filesystem::path& file, const MoeConfig& config) {
  RunInput input;
  for (auto& [name, tensor] : read_tensors(file).tensors) {
    if (name == "tokens")
      input.tokens = std::move(tensor);
    else if (name == "router_logits")
      input.router_logits = std::move(tensor);
    else if (name == "expert_ids")
      input.expert_ids = std::move(tensor);
    else if (name == "expert_weights")
      input.expert_weights = std::move(tensor);
    else if (name == "input_ids")
      input.input_ids = std::move(tensor);
    else
      input.ignored.push_back(name);
  }
  const Shape& shape = input.tokens.shape();
  if (!input.tokens || shape.rank() != 2 || shape[1] != config.hidden)
    throw InvalidArgument(
        fmt::format("[run] {}: expected a tensor `tokens` [T, {}], got {}. H comes from the "
                    "checkpoint.",
                    file.string(), config.hidden, input.tokens ? to_string(shape) : "none"));
  return input;
}

RunInput random_input(const MoeConfig& config, const MoeWeights& weights, int tokens,
                      std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  RunInput input;
  input.tokens = Tensor(DType::bf16, {tokens, config.hidden});
  auto* values = input.tokens.as<std::uint16_t>();
  for (std::int64_t i = 0; i < input.tokens.shape().elements(); ++i)
    values[i] =
        static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(random_normal(engine)) >> 16);
  if (config.routing.method == RoutingMethod::hash && weights.hash_table) {
    const auto vocabulary = static_cast<std::uint64_t>(weights.hash_table.shape()[0]);
    input.input_ids = Tensor(DType::i32, {tokens});
    for (int t = 0; t < tokens; ++t)
      input.input_ids.as<std::int32_t>()[t] = static_cast<std::int32_t>(engine() % vocabulary);
  }
  return input;
}

}  // namespace switchyard::cli
