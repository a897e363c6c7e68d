#include "base/log.h"

#include <cstdio>

#include "base/env.h"

namespace switchyard {

void log_info(std::string_view line) {
  const std::string level = env("SWITCHYARD_LOG");
  if (level != "info" && level != "debug") return;
  const std::string text = "switchyard: " + std::string(line) + "\n";
  std::fputs(text.c_str(), stderr);
}

}  // namespace switchyard
