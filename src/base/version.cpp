#include "switchyard/switchyard.h"

#define SWITCHYARD_STRING_(x) #x
#define SWITCHYARD_STRING(x) SWITCHYARD_STRING_(x)

namespace switchyard {

const char* version() noexcept {
  return SWITCHYARD_STRING(SWITCHYARD_VERSION_MAJOR) "." SWITCHYARD_STRING(
      SWITCHYARD_VERSION_MINOR) "." SWITCHYARD_STRING(SWITCHYARD_VERSION_PATCH);
}

}  // namespace switchyard
