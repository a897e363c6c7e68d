#pragma once

#include "device/types.cuh"

#ifdef __CUDACC__
#include "device/ptx.cuh"
#endif

// The layer's activations, for float and double, on the host and in kernels. `Math` supplies
// reciprocal, exp, tanh and erf: base/math.h on the host, fast forms on the device. A NaN goes
// through all of them.

namespace switchyard::device {

template <class Math, class T>
SWITCHYARD_BOTH constexpr T sigmoid(T x) {
  return Math::reciprocal(T(1) + Math::exp(-x));
}

template <class Math, class T>
SWITCHYARD_BOTH constexpr T silu(T x) {
  return x * sigmoid<Math>(x);
}

template <class T>
SWITCHYARD_BOTH constexpr T relu(T x) {
  return x < T(0) ? T(0) : x;
}

template <class T>
SWITCHYARD_BOTH constexpr T at_most(T x, T limit) {
  return x > limit ? limit : x;
}

template <class T>
SWITCHYARD_BOTH constexpr T clamp(T x, T limit) {
  return x < -limit ? -limit : at_most(x, limit);
}

/// x Phi(x)
template <class Math, class T>
SWITCHYARD_BOTH constexpr T gelu(T x) {
  return T(0.5) * x * (T(1) + Math::erf(x * T(0.70710678118654752440)));
}

/// The tanh approximation of gelu.
template <class Math, class T>
SWITCHYARD_BOTH constexpr T gelu_tanh(T x) {
  constexpr T kSqrt2OverPi = T(0.79788456080286535588);
  return T(0.5) * x * (T(1) + Math::tanh(kSqrt2OverPi * (x + T(0.044715) * x * x * x)));
}

/// gpt-oss: g' sigmoid(alpha g') (u' + beta) with g' = min(g, limit), u' = clamp(u, +-limit).
template <class Math, class T>
SWITCHYARD_BOTH constexpr T swiglu_oai(T gate, T up, T alpha, T beta, T limit) {
  const T g = at_most(gate, limit);
  return g * sigmoid<Math>(alpha * g) * (clamp(up, limit) + beta);
}

/// min(silu(g), limit) clamp(u, +-limit)
template <class Math, class T>
SWITCHYARD_BOTH constexpr T swiglu_step(T gate, T up, T limit) {
  return at_most(silu<Math>(gate), limit) * clamp(up, limit);
}

/// Kimi-K3: beta tanh(g / beta) sigmoid(g) * linear_beta tanh(u / linear_beta)
template <class Math, class T>
SWITCHYARD_BOTH constexpr T situ(T gate, T up, T beta, T linear_beta) {
  return beta * Math::tanh(gate / beta) * sigmoid<Math>(gate) * linear_beta *
         Math::tanh(up / linear_beta);
}

/// ActivationKind of config.h, for kernels.
enum class ActivationCode : int {
  identity,
  relu,
  relu2,
  silu,
  gelu,
  swiglu,
  swiglu_oai,
  swiglu_clamp,
  swiglu_step,
  geglu,
  geglu_tanh,
  situ,
};

constexpr bool is_gated(ActivationCode code) {
  return code >= ActivationCode::swiglu;
}

struct ActivationConstants {
  float alpha, beta, limit, linear_beta;
};

/// The activation of one pair; without a gate `gate` is the value and `up` is not read.
template <ActivationCode kCode, class Math>
SWITCHYARD_BOTH constexpr float activate(float gate, float up, const ActivationConstants& c) {
  using Code = ActivationCode;
  if constexpr (kCode == Code::identity) return gate;
  if constexpr (kCode == Code::relu) return relu(gate);
  if constexpr (kCode == Code::relu2) return relu(gate) * relu(gate);
  if constexpr (kCode == Code::silu) return silu<Math>(gate);
  if constexpr (kCode == Code::gelu) return gelu<Math>(gate);
  if constexpr (kCode == Code::swiglu) return silu<Math>(gate) * up;
  if constexpr (kCode == Code::swiglu_oai)
    return swiglu_oai<Math>(gate, up, c.alpha, c.beta, c.limit);
  if constexpr (kCode == Code::swiglu_clamp) return swiglu_oai<Math>(gate, up, 1.0f, 0.0f, c.limit);
  if constexpr (kCode == Code::swiglu_step) return swiglu_step<Math>(gate, up, c.limit);
  if constexpr (kCode == Code::geglu) return gelu<Math>(gate) * up;
  if constexpr (kCode == Code::geglu_tanh) return gelu_tanh<Math>(gate) * up;
  if constexpr (kCode == Code::situ) return situ<Math>(gate, up, c.beta, c.linear_beta);
}

#ifdef __CUDACC__
/// By the special function unit: a few units in the last place of f32.
struct FastMath {
  __device__ static float reciprocal(float x) { return ptx::reciprocal(x); }
  __device__ static float exp(float x) { return ptx::exp2(x * 1.4426950408889634f); }
  __device__ static float tanh(float x) { return 1 - 2 * reciprocal(1 + exp(2 * x)); }
  __device__ static float erf(float x) { return erff(x); }
};
#endif

}  // namespace switchyard::device
