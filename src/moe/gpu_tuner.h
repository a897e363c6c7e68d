#pragma once

#include <span>

#include "cuda/context.h"
#include "switchyard/tuner.h"
#include "tune/sampler.h"

namespace switchyard::moe {

/// tuner::tune() for `device`, timed by `sampler`: no GPU is asked.
tuner::Summary tune_on(const cuda::DeviceInfo& device, tune::Sampler& sampler,
                       std::span<const MoeProblem> problems, const tuner::Options& options);

}  // namespace switchyard::moe
