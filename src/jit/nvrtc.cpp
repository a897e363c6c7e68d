#include "jit/nvrtc.h"

#include <dlfcn.h>
#include <fmt/ranges.h>

#include "switchyard/error.h"

namespace switchyard::jit {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFiles[] = {"libnvrtc.so.13", "libnvrtc.so.12"};
constexpr const char* kToolkits[] = {"/usr/local/cuda/lib64", "/opt/cuda/lib64",
                                     "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"};
constexpr const char* kWheels[] = {"nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib"};

/// Folder of the file this code was loaded from: site-packages/switchyard inside a wheel.
fs::path own_folder() {
  Dl_info info = {};
  if (dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr)
    return {};
  std::error_code ignored;
  return fs::absolute(info.dli_fname, ignored).parent_path();
}

template <class Function>
bool bind(void* library, Function*& entry, const char* name) {
  entry = reinterpret_cast<Function*>(dlsym(library, name));
  return entry != nullptr;
}

bool bind_all(void* library, Nvrtc& api) {
  return bind(library, api.nvrtcVersion, "nvrtcVersion") &&
         bind(library, api.nvrtcGetErrorString, "nvrtcGetErrorString") &&
         bind(library, api.nvrtcCreateProgram, "nvrtcCreateProgram") &&
         bind(library, api.nvrtcDestroyProgram, "nvrtcDestroyProgram") &&
         bind(library, api.nvrtcAddNameExpression, "nvrtcAddNameExpression") &&
         bind(library, api.nvrtcCompileProgram, "nvrtcCompileProgram") &&
         bind(library, api.nvrtcGetLoweredName, "nvrtcGetLoweredName") &&
         bind(library, api.nvrtcGetCUBINSize, "nvrtcGetCUBINSize") &&
         bind(library, api.nvrtcGetCUBIN, "nvrtcGetCUBIN") &&
         bind(library, api.nvrtcGetProgramLogSize, "nvrtcGetProgramLogSize") &&
         bind(library, api.nvrtcGetProgramLog, "nvrtcGetProgramLog");
}

/// Fills `opened` if the library behind `handle` is a complete NVRTC.
bool adopt(void* handle, OpenedNvrtc& opened) {
  int major = 0, minor = 0;
  if (handle == nullptr || !bind_all(handle, opened.api) ||
      opened.api.nvrtcVersion(&major, &minor) != NVRTC_SUCCESS)
    return false;
  opened.version = fmt::format("{}.{}", major, minor);
  opened.declines.reset();
  return true;
}

OpenedNvrtc open_process_nvrtc() {
  OpenedNvrtc opened;
  for (const char* file : kFiles)
    if (adopt(dlopen(file, RTLD_NOW | RTLD_NOLOAD), opened)) return opened;
  return open_nvrtc(nvrtc_candidates());
}

}  // namespace

OpenedNvrtc open_nvrtc(std::span<const fs::path> candidates) {
  OpenedNvrtc opened;
  for (const fs::path& path : candidates)
    if (adopt(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL), opened)) return opened;
  std::vector<std::string> names;
  for (const fs::path& path : candidates) names.push_back(path.string());
  opened.declines = fmt::format(
      "[jit] no NVRTC: none of {} opens. Install the CUDA toolkit's NVRTC (or `pip install "
      "nvidia-cuda-nvrtc`), or bring a kernel cache that was filled elsewhere "
      "(SWITCHYARD_CACHE_DIR).",
      fmt::join(names, ", "));
  return opened;
}

std::vector<fs::path> nvrtc_candidates() {
  std::vector<fs::path> all(std::begin(kFiles), std::end(kFiles));
  for (const char* folder : kToolkits)
    for (const char* file : kFiles) all.push_back(fs::path(folder) / file);
  for (fs::path folder = own_folder(); folder.has_relative_path(); folder = folder.parent_path())
    for (const char* wheel : kWheels)
      for (const char* file : kFiles)
        if (std::error_code ignored; fs::exists(folder / wheel / file, ignored))
          all.push_back(folder / wheel / file);
  return all;
}

const OpenedNvrtc& nvrtc() {
  static const OpenedNvrtc opened = open_process_nvrtc();
  return opened;
}

void check(nvrtcResult result, const char* call, Location at) {
  if (result == NVRTC_SUCCESS) return;
  throw DeviceError(fmt::format("{} failed: {} at {}:{}", call,
                                nvrtc().api.nvrtcGetErrorString(result), at.file, at.line));
}

}  // namespace switchyard::jit
