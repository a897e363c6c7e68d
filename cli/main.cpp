#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <string>

#include "cli/cli.h"
#include "cli/usage.h"
#include "switchyard/error.h"
#include "switchyard/switchyard.h"

namespace {

constexpr const char* kFooter = R"(Examples:
  switchyard inspect ~/models/gpt-oss-20b
  switchyard run ~/models/gpt-oss-20b --layer 3 --tokens 16 --check
  switchyard run ~/models/gpt-oss-20b --layer 3 --input tokens.safetensors --output out.safetensors
  switchyard quantize ~/models/Qwen3-30B-A3B ~/models/Qwen3-30B-A3B-NVFP4 --to nvfp4
  switchyard check 'moe t128 h512 i256 e16 k4 mxfp4 swiglu_oai topk_softmax bias'

A model is a directory with config.json and *.safetensors, as it is published. `switchyard COMMAND
--help` explains a command; --json makes any of them print one JSON document.

Exit codes: 0 done; 1 a check failed; 2 wrong usage or input; 3 the device, memory or a file failed.)";

int fail(const std::exception& error, int exit_code) {
  std::fflush(stdout);
  fmt::print(stderr, "switchyard: {}\n", error.what());
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace switchyard;
  CLI::App app{
      "Switchyard runs the mixture-of-experts layers of a language model from its checkpoint."};
  app.footer(kFooter);
  app.set_version_flag("--version", std::string("switchyard ") + version());
  app.require_subcommand(1);
  app.failure_message(cli::usage_error);
  int exit_code = cli::kOk;
  cli::add_inspect(app, exit_code);
  cli::add_run(app, exit_code);
  cli::add_check(app, exit_code);
  cli::add_quantize(app, exit_code);
  cli::add_explain(app, exit_code);
  cli::add_cache(app, exit_code);
  cli::add_tune(app, exit_code);
  cli::add_bench(app, exit_code);
  cli::add_report(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? cli::kOk : cli::kBadInput;
  } catch (const InvalidArgument& error) {
    return fail(error, cli::kBadInput);
  } catch (const Unsupported& error) {
    return fail(error, cli::kBadInput);
  } catch (const std::exception& error) {
    return fail(error, cli::kDeviceError);
  }
  if (std::fflush(stdout) != 0)
    return fail(DeviceError("[stdout] cannot write."), cli::kDeviceError);
  return exit_code;
}
