#pragma once

#include <memory>

#include "tune/sampler.h"

namespace switchyard::moe {

/// Times a layer's candidates on a GPU: random weights and tokens, a captured graph of several
/// layers, each with another routing of the load, cold L2. A trial's problem is a key
/// (gpu_picks.h), its config a tactic. What was prepared for one layer is kept until the next one.
/// Throws Unsupported without such a GPU.
std::unique_ptr<tune::Sampler> gpu_sampler(int ordinal);

}  // namespace switchyard::moe
