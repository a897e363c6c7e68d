#include "jit/entry.h"

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/digest.h"

namespace switchyard::jit {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kFormat = 1;
constexpr const char* kCubin = "kernel.cubin";
constexpr const char* kEntry = "entry.json";

json describe(const Entry& entry) {
  const auto& [program, binary] = entry;
  return {{"format", kFormat},
          {"file", program.file},
          {"instance", program.instance},
          {"arch", program.arch},
          {"options", program.options},
          {"symbol", binary.symbol},
          {"compiler", binary.compiler},
          {"registers", binary.resources.registers},
          {"stack_bytes", binary.resources.stack_bytes},
          {"spill_bytes", binary.resources.spill_bytes},
          {"smem_bytes", binary.resources.smem_bytes}};
}

Entry parse(const json& about) {
  require(about.at("format") == kFormat, "format: expected {}, got {}.", kFormat,
          about.at("format").dump());
  Entry entry;
  about.at("file").get_to(entry.program.file);
  about.at("instance").get_to(entry.program.instance);
  about.at("arch").get_to(entry.program.arch);
  about.at("options").get_to(entry.program.options);
  about.at("symbol").get_to(entry.binary.symbol);
  about.at("compiler").get_to(entry.binary.compiler);
  about.at("registers").get_to(entry.binary.resources.registers);
  about.at("stack_bytes").get_to(entry.binary.resources.stack_bytes);
  about.at("spill_bytes").get_to(entry.binary.resources.spill_bytes);
  about.at("smem_bytes").get_to(entry.binary.resources.smem_bytes);
  return entry;
}

std::string seal(const json& about, std::string_view cubin) {
  const std::string text = about.dump();
  const std::string_view parts[] = {text, cubin};
  return to_string(digest(parts));
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  require(file.is_open(), "{} is missing", path.filename().string());
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const fs::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) throw DeviceError(fmt::format("{} cannot be written", path.string()));
}

}  // namespace

Entry read_entry(const fs::path& folder) try {
  const json file = json::parse(read_file(folder / kEntry));
  Entry entry = parse(file.at("entry"));
  entry.binary.cubin = read_file(folder / kCubin);
  require(file.at("digest") == seal(file.at("entry"), entry.binary.cubin),
          "its digest does not match");
  return entry;
} catch (const json::exception& error) {
  throw InvalidArgument(error.what());
}

void write_entry(const fs::path& folder, const Entry& entry) try {
  fs::create_directories(folder);
  const json about = describe(entry);
  write_file(folder / kCubin, entry.binary.cubin);
  write_file(folder / kEntry,
             json{{"digest", seal(about, entry.binary.cubin)}, {"entry", about}}.dump(1) + "\n");
} catch (const fs::filesystem_error& error) {
  throw DeviceError(error.what());
}

}  // namespace switchyard::jit
