#pragma once

#include "base/math.h"
#include "device/activation.cuh"
#include "switchyard/config.h"

namespace switchyard::grouped_gemm {

/// What the activation makes of one gate and up value; `up` is ignored by kinds without a gate.
/// T = double is the definition, T = float what the CPU backend runs. `Math` as in base/math.h.
template <class T, class Math = StdMath>
T activate(const Activation& a, T gate, T up) {
  const T alpha = a.alpha, beta = a.beta, limit = a.limit, linear_beta = a.linear_beta;
  switch (a.kind) {
    case ActivationKind::identity:
      return gate;
    case ActivationKind::relu:
      return device::relu(gate);
    case ActivationKind::relu2:
      return device::relu(gate) * device::relu(gate);
    case ActivationKind::silu:
      return device::silu<Math>(gate);
    case ActivationKind::gelu:
      return device::gelu<Math>(gate);
    case ActivationKind::swiglu:
      return device::silu<Math>(gate) * up;
    case ActivationKind::swiglu_oai:
      return device::swiglu_oai<Math>(gate, up, alpha, beta, limit);
    case ActivationKind::swiglu_clamp:
      return device::swiglu_oai<Math>(gate, up, T(1), T(0), limit);
    case ActivationKind::swiglu_step:
      return device::swiglu_step<Math>(gate, up, limit);
    case ActivationKind::geglu:
      return device::gelu<Math>(gate) * up;
    case ActivationKind::geglu_tanh:
      return device::gelu_tanh<Math>(gate) * up;
    case ActivationKind::situ:
      return device::situ<Math>(gate, up, beta, linear_beta);
  }
  return gate;
}

}  // namespace switchyard::grouped_gemm
