#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "cli/cli.h"
#include "cli/run_layer.h"
#include "cli/usage.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

namespace switchyard::cli {
namespace {

struct RunCommand {
  RunOptions run;
  std::string output;
  bool json = false;
};

constexpr const char* kFooter = R"(  switchyard run DIR --layer 3 --tokens 16 --check
  switchyard run DIR --layer 3 --input in.safetensors --output out.safetensors
  switchyard run DIR --layer 3 --device cuda     on the first GPU
  switchyard run DIR --layer 3 --tp 1/8          tensor-parallel part 1 of 8; reads its bytes only

The input file has `tokens` [T, H] in bf16, f16 or f32, and optionally `router_logits` [T, E], or
`expert_ids` [T, K] i32 with `expert_weights` [T, K] f32, and `input_ids` [T] for layers that route
by token id. The output file gets `output`, `expert_ids` and `expert_weights`; it must not exist.)";

/// Mistakes that would otherwise show after minutes of work.
void check_output(const std::filesystem::path& output) {
  if (std::filesystem::exists(output))
    throw InvalidArgument(fmt::format(
        "[run] --output: {} exists. Remove it or choose another name.", output.string()));
  const std::filesystem::path parent = std::filesystem::absolute(output).parent_path();
  if (!std::filesystem::is_directory(parent))
    throw InvalidArgument(fmt::format("[run] --output: {} is not a directory.", parent.string()));
  if (::access(parent.c_str(), W_OK) != 0)
    throw InvalidArgument(fmt::format(
        "[run] --output: {} is not writable. Choose another directory.", parent.string()));
}

int run(const RunCommand& command) {
  if (!command.output.empty()) check_output(command.output);
  RunReport report = run_layer(command.run);
  if (command.json)
    print(to_json(report));
  else
    print(report);
  if (!command.output.empty()) {
    TensorFile file;
    file.tensors["output"] = std::move(report.out);
    file.tensors["expert_ids"] = std::move(report.expert_ids);
    file.tensors["expert_weights"] = std::move(report.expert_weights);
    write_tensors(command.output, file);
  }
  return report.check && !report.check->passed ? kCheckFailed : kOk;
}

}  // namespace

void add_run(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<RunCommand>();
  RunOptions& run_options = options->run;
  CLI::App* command = app.add_subcommand("run", "Runs one MoE layer of a checkpoint on tokens.");
  command->footer(kFooter);
  command->add_option("DIR", run_options.directory, "checkpoint directory, or a .safetensors file")
      ->required();
  command->add_option("--layer", run_options.layer, "model layer, as `inspect` numbers them")
      ->check(count())
      ->required();
  CLI::Option* tokens =
      command->add_option("--tokens", run_options.tokens, "that many random tokens")
          ->check(count())
          ->capture_default_str();
  command->add_option("--input", run_options.input, "tokens from a .safetensors file, see below")
      ->check(existing_file())
      ->excludes(tokens);
  command->add_option("--output", options->output, "write the result to a .safetensors file");
  command->add_flag("--check", run_options.check, "compare with the definition in f64");
  command->add_option("--act", run_options.act,
                      "round each GEMM's input to f32, bf16, fp16, fp8_tensor, fp8_token, "
                      "fp8_block, nvfp4 or mxfp8 instead of what the checkpoint asks for");
  command->add_option("--tp", run_options.tp, "tensor-parallel part r/n")
      ->check(part())
      ->capture_default_str();
  command->add_option("--ep", run_options.ep, "expert-parallel part r/n")
      ->check(part())
      ->capture_default_str();
  command->add_option("--seed", run_options.seed, "of the random tokens")
      ->check(long_count())
      ->capture_default_str();
  command->add_option("--device", run_options.device, "cpu, cuda or cuda:N")->capture_default_str();
  command->add_option("--threads", run_options.threads, "0 = one per core")
      ->check(count())
      ->capture_default_str();
  command->add_flag("--json", options->json, "one JSON document on stdout");
  command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace switchyard::cli
