#pragma once

#include <optional>
#include <string_view>

#include "switchyard/c_api.h"
#include "switchyard/device.h"
#include "switchyard/tensor.h"

namespace switchyard::c_api {

/// Where an array must lie: host memory, or the memory of GPU `ordinal`.
struct Place {
  DeviceKind kind = DeviceKind::cpu;
  int ordinal = 0;
};

/// The caller's array, or an absent view for null. Bytes count as `bytes_as`, if that is given.
/// Throws InvalidArgument, naming `where` and `what`, for other strides, devices and types.
TensorView view_of(const SwitchyardTensor* tensor, std::string_view where, std::string_view what,
                   Place place = {}, std::optional<DType> bytes_as = std::nullopt);

/// `tensor` as the C struct; its shape points into `shape`, which the caller keeps.
SwitchyardTensor as_c(const Tensor& tensor, std::int64_t (&shape)[Shape::kMaxRank]);

}  // namespace switchyard::c_api
