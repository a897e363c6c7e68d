#include "jit/compiler.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/check.h"
#include "jit/nvrtc.h"

namespace switchyard::jit {
namespace {

/// The number that stands before `unit` in `line`.
std::optional<int> count_before(std::string_view line, std::string_view unit) {
  const std::size_t end = line.find(unit);
  if (end == std::string_view::npos) return std::nullopt;
  std::size_t begin = end;
  while (begin > 0 && line[begin - 1] >= '0' && line[begin - 1] <= '9') --begin;
  int value = 0;
  const auto parsed = std::from_chars(line.data() + begin, line.data() + end, value);
  if (parsed.ec != std::errc() || begin == end) return std::nullopt;
  return value;
}

template <class Visit>
void for_each_line(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    visit(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

/// The log without ptxas' statistics. That products wait for each other is a warning to us.
std::string warnings_of(std::string_view log) {
  std::string warnings;
  for_each_line(log, [&](std::string_view line) {
    const bool slow = line.find("Potential Performance Loss") != std::string_view::npos;
    const bool statistic =
        !slow && (line.starts_with("ptxas info") || line.starts_with("ptxas         ."));
    if (!statistic && !line.empty()) warnings += std::string(line) + "\n";
  });
  return warnings;
}

/// An nvrtcProgram made from the closure's files, in memory.
class Unit {
 public:
  Unit(const Nvrtc& api, const Program& program, const Closure& closure) : api_(api) {
    std::vector<const char*> texts, names;
    for (const SourceFile& file : closure.files) {
      texts.push_back(file.text.c_str());
      names.push_back(file.path.c_str());
    }
    const std::string text = fmt::format("#include \"{}\"\n", program.file);
    SWITCHYARD_NVRTC(api_.nvrtcCreateProgram(&unit_, text.c_str(), "switchyard.cu",
                                             static_cast<int>(texts.size()), texts.data(),
                                             names.data()));
  }
  ~Unit() { api_.nvrtcDestroyProgram(&unit_); }
  Unit(const Unit&) = delete;
  Unit& operator=(const Unit&) = delete;

  nvrtcProgram get() const { return unit_; }

  std::string log() const {
    std::size_t size = 0;
    SWITCHYARD_NVRTC(api_.nvrtcGetProgramLogSize(unit_, &size));
    std::string text(size, '\0');
    SWITCHYARD_NVRTC(api_.nvrtcGetProgramLog(unit_, text.data()));
    return text.substr(0, text.find('\0'));
  }

  std::string cubin() const {
    std::size_t size = 0;
    SWITCHYARD_NVRTC(api_.nvrtcGetCUBINSize(unit_, &size));
    std::string bytes(size, '\0');
    SWITCHYARD_NVRTC(api_.nvrtcGetCUBIN(unit_, bytes.data()));
    return bytes;
  }

 private:
  const Nvrtc& api_;
  nvrtcProgram unit_ = nullptr;
};

Binary compile(const Program& program, const Closure& closure) {
  const auto& [api, version, declines] = nvrtc();
  if (declines) throw Unsupported(*declines);

  const Unit unit(api, program, closure);
  SWITCHYARD_NVRTC(api.nvrtcAddNameExpression(unit.get(), program.instance.c_str()));
  const std::string arch = "-arch=" + program.arch;
  std::vector<const char*> options = {arch.c_str(), "-std=c++20", "-default-device",
                                      "--ptxas-options=-v"};
  // The compiler's own cache (since 13) would repeat the code, but not what ptxas says about it.
  if (std::stoi(version) >= 13) options.push_back("--no-cache");
  for (const std::string& option : program.options) options.push_back(option.c_str());
  const nvrtcResult result =
      api.nvrtcCompileProgram(unit.get(), static_cast<int>(options.size()), options.data());
  const std::string log = unit.log();
  if (result != NVRTC_SUCCESS)
    throw DeviceError(fmt::format("[jit] {} does not compile for {} (NVRTC {}, {}):\n{}",
                                  program.instance, program.arch, version,
                                  api.nvrtcGetErrorString(result), log));
  const char* symbol = nullptr;
  SWITCHYARD_NVRTC(api.nvrtcGetLoweredName(unit.get(), program.instance.c_str(), &symbol));
  return {.cubin = unit.cubin(),
          .symbol = symbol,
          .compiler = version,
          .warnings = warnings_of(log),
          .resources = parse_resources(log)};
}

}  // namespace

std::string architecture(int sm) {
  return fmt::format("sm_{}{}", sm, sm >= 90 ? "a" : "");
}

Resources parse_resources(std::string_view log) {
  Resources all;
  for_each_line(log, [&](std::string_view line) {
    const auto largest = [&](int& value, std::string_view unit) {
      value = std::max(value, count_before(line, unit).value_or(0));
    };
    largest(all.stack_bytes, " bytes stack frame");
    largest(all.stack_bytes, " bytes cumulative stack size");
    largest(all.registers, " registers");
    largest(all.smem_bytes, " bytes smem");
    all.spill_bytes += count_before(line, " bytes spill stores").value_or(0) +
                       count_before(line, " bytes spill loads").value_or(0);
  });
  return all;
}

Compiler nvrtc_compiler() {
  return {.version = [] { return nvrtc().version; }, .compile = compile};
}

}  // namespace switchyard::jit
