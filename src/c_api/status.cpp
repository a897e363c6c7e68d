#include "c_api/status.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "switchyard/switchyard.h"

namespace switchyard::c_api {
namespace {

thread_local std::string last_error;

int store(int status, const char* text) noexcept {
  try {
    last_error = text;
  } catch (...) {
    last_error.clear();  // no memory for the text either; the status is what is left
  }
  return status;
}

}  // namespace

int fail() noexcept {
  try {
    throw;
  } catch (const InvalidArgument& error) {
    return store(SWITCHYARD_INVALID_ARGUMENT, error.what());
  } catch (const Unsupported& error) {
    return store(SWITCHYARD_UNSUPPORTED, error.what());
  } catch (const DeviceError& error) {
    return store(SWITCHYARD_DEVICE_ERROR, error.what());
  } catch (const std::bad_alloc&) {
    return store(SWITCHYARD_DEVICE_ERROR, "[memory] the allocation failed. Free some memory.");
  } catch (const std::exception& error) {
    return store(SWITCHYARD_INTERNAL, error.what());
  } catch (...) {
    return store(SWITCHYARD_INTERNAL, "[c_api] an exception of an unknown type.");
  }
}

char* text_of(std::string_view text) {
  char* const copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy == nullptr) throw std::bad_alloc();
  std::memcpy(copy, text.data(), text.size());
  copy[text.size()] = '\0';
  return copy;
}

}  // namespace switchyard::c_api

extern "C" {

const char* switchyard_version(void) {
  return switchyard::version();
}

int switchyard_c_api_version(void) {
  return SWITCHYARD_C_API_VERSION;
}

const char* switchyard_last_error(void) {
  return switchyard::c_api::last_error.c_str();
}

void switchyard_text_free(char* text) {
  std::free(text);
}
}
