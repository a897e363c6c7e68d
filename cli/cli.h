#pragma once

#include <CLI/CLI.hpp>

namespace switchyard::cli {

/// What the process returns; `switchyard --help` documents them.
enum ExitCode { kOk = 0, kCheckFailed = 1, kBadInput = 2, kDeviceError = 3 };

/// Each adds one command to `app`. If the user picks it, parsing runs it and sets `exit_code`.
void add_inspect(CLI::App& app, int& exit_code);
void add_run(CLI::App& app, int& exit_code);
void add_check(CLI::App& app, int& exit_code);
void add_quantize(CLI::App& app, int& exit_code);
void add_explain(CLI::App& app, int& exit_code);
void add_cache(CLI::App& app, int& exit_code);
void add_tune(CLI::App& app, int& exit_code);
void add_bench(CLI::App& app, int& exit_code);
void add_report(CLI::App& app, int& exit_code);

}  // namespace switchyard::cli
