#include "base/expect.h"

#include <algorithm>

#include "base/check.h"

namespace switchyard {

void expect(std::string_view where, std::string_view what, ConstTensorView view, const Shape& shape,
            std::initializer_list<DType> types) {
  const bool known = std::find(types.begin(), types.end(), view.dtype) != types.end();
  if (view && known && view.shape == shape) return;
  std::string names;
  for (const DType type : types)
    names += fmt::format("{}{}", names.empty() ? "" : " or ", name(type));
  const std::string got =
      view ? fmt::format("{} {}", name(view.dtype), to_string(view.shape)) : "none";
  throw InvalidArgument(
      fmt::format("[{}] {}: expected {} {}, got {}.", where, what, names, to_string(shape), got));
}

}  // namespace switchyard
