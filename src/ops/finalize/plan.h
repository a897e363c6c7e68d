#pragma once

#include <string>

#include "jit/kernel.h"
#include "ops/finalize/shared.cuh"

/// The sum over a token's experts on a GPU, where the GEMMs do not make it.
namespace switchyard::finalize {

/// "weighted"
std::string to_string(const Config& config);
jit::Program program(const Config& config, int sm);
/// For `tokens` tokens at most.
jit::Launch launch(int tokens, int hidden, jit::Kernel kernel);

}  // namespace switchyard::finalize
