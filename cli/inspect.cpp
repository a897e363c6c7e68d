#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "cli/cli.h"
#include "cli/print.h"
#include "switchyard/checkpoint.h"

namespace switchyard::cli {
namespace {

struct InspectOptions {
  std::string directory;
  bool json = false;
};

bool same_but_for_the_number(const CheckpointLayer& a, const CheckpointLayer& b) {
  return a.scheme == b.scheme && a.config == b.config && a.gate_up == b.gate_up &&
         a.down == b.down && a.expert_bytes == b.expert_bytes && a.other_bytes == b.other_bytes;
}

void print_table(const Checkpoint& checkpoint) {
  const std::vector<CheckpointLayer>& layers = checkpoint.layers();
  std::int64_t bytes = 0;
  for (const CheckpointLayer& layer : layers) bytes += layer.expert_bytes;
  fmt::print("{}: {} MoE layer{}, {} in routed experts\n", checkpoint.family(), layers.size(),
             layers.size() == 1 ? "" : "s", human_bytes(bytes));
  for (std::size_t first = 0; first < layers.size();) {
    std::size_t last = first;
    while (last + 1 < layers.size() && layers[last + 1].layer == layers[last].layer + 1 &&
           same_but_for_the_number(layers[first], layers[last + 1]))
      ++last;
    const CheckpointLayer& layer = layers[first];
    fmt::print("\n{}\n", first == last
                             ? fmt::format("layer {}", layer.layer)
                             : fmt::format("layers {}-{}", layer.layer, layers[last].layer));
    fmt::print("  what     {}\n", describe(layer.config));
    fmt::print("  format   {} ({})\n", formats(layer), layer.scheme);
    fmt::print("  bytes    {} in experts, {} beside them{}\n", human_bytes(layer.expert_bytes),
               human_bytes(layer.other_bytes), first == last ? "" : ", each layer");
    fmt::print("  tensors  {}*\n", layer.prefix);
    first = last + 1;
  }
}

Json to_json(const Checkpoint& checkpoint) {
  Json layers = Json::array();
  for (const CheckpointLayer& layer : checkpoint.layers()) layers.push_back(cli::to_json(layer));
  return {{"family", checkpoint.family()}, {"layers", std::move(layers)}};
}

void inspect(const InspectOptions& options) {
  const Checkpoint checkpoint = Checkpoint::open(options.directory);
  if (options.json)
    print(to_json(checkpoint));
  else
    print_table(checkpoint);
}

}  // namespace

void add_inspect(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command = app.add_subcommand(
      "inspect",
      "Lists the MoE layers of a checkpoint: sizes, formats, routing. Reads headers only.");
  command->add_option("DIR", options->directory, "checkpoint directory, or one .safetensors file")
      ->required();
  command->add_flag("--json", options->json, "one JSON document on stdout");
  command->callback([options, &exit_code] {
    inspect(*options);
    exit_code = kOk;
  });
}

}  // namespace switchyard::cli
