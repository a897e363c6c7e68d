#pragma once

#include <initializer_list>
#include <string_view>

#include "switchyard/tensor.h"

namespace switchyard {

/// Throws InvalidArgument, "[where] what: expected bf16 or f32 [4, 8], got f32 [4, 9]", unless
/// `view` is present with that shape and one of the types.
void expect(std::string_view where, std::string_view what, ConstTensorView view, const Shape& shape,
            std::initializer_list<DType> types);

inline constexpr std::initializer_list<DType> kPlainFloats = {DType::f32, DType::bf16, DType::f16};

}  // namespace switchyard
