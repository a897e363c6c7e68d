#pragma once

#include <cmath>

namespace switchyard {

template <class T>
constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

template <class T>
constexpr T round_up(T a, T b) {
  return ceil_div(a, b) * b;
}

/// The functions that freestanding formulas (device/activation.cuh) take from their surroundings.
struct StdMath {
  template <class T>
  static T reciprocal(T x) {
    return T(1) / x;
  }
  template <class T>
  static T exp(T x) {
    return std::exp(x);
  }
  template <class T>
  static T tanh(T x) {
    return std::tanh(x);
  }
  template <class T>
  static T erf(T x) {
    return std::erf(x);
  }
};

}  // namespace switchyard
