#pragma once

/// The whole public interface, and its version.
#include "switchyard/checkpoint.h"
#include "switchyard/config.h"
#include "switchyard/dense.h"
#include "switchyard/device.h"
#include "switchyard/dtype.h"
#include "switchyard/error.h"
#include "switchyard/kernels.h"
#include "switchyard/moe.h"
#include "switchyard/ops.h"
#include "switchyard/problem.h"
#include "switchyard/sorted.h"
#include "switchyard/tensor.h"
#include "switchyard/tuner.h"
#include "switchyard/weights.h"

#define SWITCHYARD_VERSION_MAJOR 0
#define SWITCHYARD_VERSION_MINOR 1
#define SWITCHYARD_VERSION_PATCH 0

namespace switchyard {

/// "0.1.0": the version of the library that is linked, which may differ from the headers'.
const char* version() noexcept;

}  // namespace switchyard
