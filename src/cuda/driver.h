#pragma once

#include <optional>
#include <string>

#include "base/location.h"
#include "cuda/api.h"

namespace switchyard::cuda {

/// Why no kernel can run here (no driver, one too old, no device); empty when one can.
std::optional<std::string> driver_declines();

/// The driver, opened and initialised at the first call of the process.
/// Throws Unsupported with driver_declines()'s sentence.
const Api& driver();

/// Opens `library` and binds every function; the sentence says what is missing.
struct Opened {
  Api api = {};
  std::optional<std::string> declines;
};
Opened open_driver(const char* library);

/// Version the installed driver supports: 13000 is CUDA 13.0.
int driver_version();

/// The release of the installed driver, "580.159.04"; "CUDA 13000" where its module does not say.
/// Throws Unsupported without a driver.
std::string driver_release();

/// Throws DeviceError, naming the call and the place, unless `result` is success.
void check(CUresult result, const char* call, Location at = Location::current());

#define SWITCHYARD_CU(call) ::switchyard::cuda::check((call), #call)

}  // namespace switchyard::cuda
