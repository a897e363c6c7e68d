#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/location.h"

namespace switchyard::jit {

using nvrtcResult = int;
using nvrtcProgram = struct _nvrtcProgram*;
inline constexpr nvrtcResult NVRTC_SUCCESS = 0;

/// NVRTC's functions that the compiler uses, by their exported names.
struct Nvrtc {
  nvrtcResult (*nvrtcVersion)(int* major, int* minor);
  const char* (*nvrtcGetErrorString)(nvrtcResult);
  nvrtcResult (*nvrtcCreateProgram)(nvrtcProgram*, const char* text, const char* name, int headers,
                                    const char* const* texts, const char* const* names);
  nvrtcResult (*nvrtcDestroyProgram)(nvrtcProgram*);
  nvrtcResult (*nvrtcAddNameExpression)(nvrtcProgram, const char* expression);
  nvrtcResult (*nvrtcCompileProgram)(nvrtcProgram, int count, const char* const* options);
  nvrtcResult (*nvrtcGetLoweredName)(nvrtcProgram, const char* expression, const char** name);
  nvrtcResult (*nvrtcGetCUBINSize)(nvrtcProgram, std::size_t*);
  nvrtcResult (*nvrtcGetCUBIN)(nvrtcProgram, char*);
  nvrtcResult (*nvrtcGetProgramLogSize)(nvrtcProgram, std::size_t*);
  nvrtcResult (*nvrtcGetProgramLog)(nvrtcProgram, char*);
};

struct OpenedNvrtc {
  Nvrtc api = {};
  std::string version;                  // "13.0"
  std::optional<std::string> declines;  // why there is none: a sentence
};

/// The first of `candidates` that opens and has every function.
OpenedNvrtc open_nvrtc(std::span<const std::filesystem::path> candidates);

/// File names for the loader, then the toolkit's and the Python wheels' usual places.
std::vector<std::filesystem::path> nvrtc_candidates();

/// The process's NVRTC: one that is loaded already (PyTorch's), else the first of the candidates.
const OpenedNvrtc& nvrtc();

/// Throws DeviceError, naming the call and the place, unless `result` is success.
void check(nvrtcResult result, const char* call, Location at = Location::current());

#define SWITCHYARD_NVRTC(call) ::switchyard::jit::check((call), #call)

}  // namespace switchyard::jit
