#pragma once

#define SWITCHYARD_VERSION_MAJOR 0
#define SWITCHYARD_VERSION_MINOR 1
#define SWITCHYARD_VERSION_PATCH 0

namespace switchyard {

/// "0.1.0": the version of the library that is linked, which may differ from the headers'.
const char* version() noexcept;

}  // namespace switchyard
