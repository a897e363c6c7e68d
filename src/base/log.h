#pragma once

#include <string_view>

namespace switchyard {

/// One line to stderr, if SWITCHYARD_LOG is info or debug.
void log_info(std::string_view line);

}  // namespace switchyard
