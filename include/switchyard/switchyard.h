#pragma once

/// The whole public interface.
#include "switchyard/checkpoint.h"
#include "switchyard/config.h"
#include "switchyard/device.h"
#include "switchyard/dtype.h"
#include "switchyard/error.h"
#include "switchyard/moe.h"
#include "switchyard/ops.h"
#include "switchyard/problem.h"
#include "switchyard/tensor.h"
#include "switchyard/version.h"
#include "switchyard/weights.h"
