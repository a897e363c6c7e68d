#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "jit/sources.h"

namespace switchyard::jit {

/// One kernel instance for one architecture: all that its machine code depends on, but for the
/// text of the files and the compiler's version.
struct Program {
  std::string file;      // "ops/finalize/kernel.cuh"
  std::string instance;  // "switchyard::finalize::kernel<switchyard::finalize::Config{256, 8}>"
  std::string arch;      // "sm_90a"
  std::vector<std::string> options;  // NVRTC's, beyond the library's own
  friend bool operator==(const Program&, const Program&) = default;
};

/// "sm_90a" for 90: the architecture whose own instructions (wgmma, tcgen05) kernels may use.
std::string architecture(int sm);

/// What ptxas says an instance needs. Zero registers: it did not say.
struct Resources {
  int registers = 0;    // per thread
  int stack_bytes = 0;  // local memory per thread
  int spill_bytes = 0;  // stores and loads, in the code
  int smem_bytes = 0;   // static
  friend bool operator==(const Resources&, const Resources&) = default;
};

/// Reads ptxas' verbose lines; the largest of several functions.
Resources parse_resources(std::string_view log);

/// A compiled instance.
struct Binary {
  std::string cubin;
  std::string symbol;    // mangled
  std::string compiler;  // NVRTC's version, "13.0"
  std::string warnings;  // as compiled; not kept on disk
  Resources resources;
};

/// A compiler as the cache sees it; tests bring their own.
struct Compiler {
  /// Empty: there is none, and compile() throws the reason. Called only when disk is asked:
  /// opening NVRTC takes 10 ms.
  std::function<std::string()> version;
  std::function<Binary(const Program&, const Closure&)> compile;
};

/// NVRTC. Its compile() throws DeviceError with the compiler's messages, which name our own files
/// and lines, and Unsupported if no NVRTC is installed. Several threads may compile at once.
Compiler nvrtc_compiler();

}  // namespace switchyard::jit
