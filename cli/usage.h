#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace switchyard::cli {

/// What a wrong command line is told: where, what, the rule, the value and the way out.
std::string usage_error(const CLI::App* app, const CLI::Error& error);

/// Whole numbers from 0 to 2^31 - 1, or to 2^63 - 1.
CLI::Validator count();
CLI::Validator long_count();

/// "1/8": RANK/RANKS as parse_part reads it.
CLI::Validator part();

CLI::Validator existing_file();

}  // namespace switchyard::cli
