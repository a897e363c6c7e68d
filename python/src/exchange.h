#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "switchyard/c_api.h"

namespace switchyard::python {

/// DLPack's DLManagedTensorVersioned.
struct ManagedTensor {
  std::uint32_t major, minor;
  void* context;
  void (*deleter)(ManagedTensor*);
  std::uint64_t flags;
  SwitchyardTensor tensor;
};
using OwnedTensor = std::unique_ptr<ManagedTensor, void (*)(ManagedTensor*)>;

/// DLPack's DLPackExchangeAPI: what a framework gives without running Python code. PyTorch has it
/// since 2.10; its __dlpack__ takes longer than everything else in a call. All need the GIL.
struct Exchange {
  std::uint32_t major, minor;
  const Exchange* previous;
  int (*allocate)(SwitchyardTensor* prototype, ManagedTensor** out, void* context,
                  void (*fail)(void* context, const char* kind, const char* text));
  int (*to_managed)(void* object, ManagedTensor** out);
  int (*from_managed)(ManagedTensor* tensor, void** object);
  int (*view)(void* object, SwitchyardTensor* out);  ///< lives as long as the object, unchanged
  int (*current_stream)(std::int32_t device_type, std::int32_t device, void** stream);
};

/// PyTorch's table for a torch.Tensor or a Parameter; null for other types, for subclasses that may
/// have no memory of their own, and before PyTorch 2.10.
const Exchange* exchange_of(nanobind::handle object);

/// uint8 [count] of the framework's allocator, beside `like`: on its device's current stream, and
/// freed in that stream's order.
OwnedTensor allocate(const Exchange& exchange, const SwitchyardTensor& like, std::size_t count);

/// The device's current stream, a cudaStream_t.
void* current_stream(const Exchange& exchange, const SwitchyardTensor& on);

}  // namespace switchyard::python
