#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <string>

#include "cli/cli.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "switchyard/checkpoint.h"

namespace switchyard::cli {
namespace {

struct QuantizeCommand {
  std::string directory, out, to;
  bool modelopt = false, json = false;
};

constexpr const char* kFooter =
    R"(Formats: nvfp4 mxfp4 mxfp8 fp8_block fp8_channel fp8_tensor int4_gN (int4_g32, int4_g128, ...) bf16.

Only the routed experts change; everything else is copied. The names and the config are those of
compressed-tensors (of ModelOpt with --modelopt; of DeepSeek for fp8_block), so other loaders open
the result. OUT must not exist or be empty; an interrupted run leaves only OUT.partial behind.)";

std::int64_t expert_bytes(const Checkpoint& checkpoint) {
  std::int64_t bytes = 0;
  for (const CheckpointLayer& layer : checkpoint.layers()) bytes += layer.expert_bytes;
  return bytes;
}

void quantize(const QuantizeCommand& command) {
  const WeightFormat format = weight_format(command.to);
  {
    ProgressLine line("quantizing");
    quantize_checkpoint(
        command.directory, command.out,
        {.format = format, .modelopt = command.modelopt, .progress = line.callback()});
  }
  const Checkpoint before = Checkpoint::open(command.directory);
  const Checkpoint after = Checkpoint::open(command.out);
  if (command.json) {
    print({{"out", command.out},
           {"format", to_string(format)},
           {"scheme", after.layers().front().scheme},
           {"layers", after.layers().size()},
           {"expert_bytes_before", expert_bytes(before)},
           {"expert_bytes_after", expert_bytes(after)}});
    return;
  }
  fmt::print("{}: {} layer{} as {} ({}), experts {} -> {}\n", command.out, after.layers().size(),
             after.layers().size() == 1 ? "" : "s", to_string(format),
             after.layers().front().scheme, human_bytes(expert_bytes(before)),
             human_bytes(expert_bytes(after)));
}

}  // namespace

void add_quantize(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<QuantizeCommand>();
  CLI::App* command = app.add_subcommand(
      "quantize", "Writes a copy of a checkpoint with its routed experts in another format.");
  command->footer(kFooter);
  command->add_option("DIR", options->directory, "checkpoint directory")->required();
  command->add_option("OUT", options->out, "directory to make")->required();
  command->add_option("--to", options->to, "format of the experts, see below")->required();
  command->add_flag("--modelopt", options->modelopt, "write ModelOpt's names and config");
  command->add_flag("--json", options->json, "one JSON document on stdout");
  command->callback([options, &exit_code] {
    quantize(*options);
    exit_code = kOk;
  });
}

}  // namespace switchyard::cli
