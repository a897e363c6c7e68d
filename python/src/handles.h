#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "python/src/errors.h"
#include "switchyard/c_api.h"

namespace switchyard::python {

/// A handle and the function that destroys it.
template <class T, void (*destroy)(T*)>
class Handle {
 public:
  T** put() noexcept { return &handle_; }
  T* get() const noexcept { return handle_; }
  Handle() = default;
  Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Handle& operator=(Handle&&) = delete;
  ~Handle() { destroy(handle_); }

 private:
  T* handle_ = nullptr;
};

using Config = Handle<SwitchyardConfig, switchyard_config_destroy>;
using Weights = Handle<SwitchyardWeights, switchyard_weights_destroy>;
using Checkpoint = Handle<SwitchyardCheckpoint, switchyard_checkpoint_destroy>;
struct Layer {
  Handle<SwitchyardLayer, switchyard_layer_destroy> handle;
  bool on_gpu = false;
};

/// Shared with calls that run without Python. Empty by default.
struct Plan {
  std::shared_ptr<SwitchyardPlan> handle;
  int max_tokens = 0;
  std::size_t workspace_bytes = 0;
  bool on_gpu = false;

  const SwitchyardPlan* get() const noexcept { return handle.get(); }
};

/// The text that a function of the C API returns.
template <class Function, class... Args>
std::string text_of(Function function, Args... args) {
  char* text = nullptr;
  check(function(args..., &text));
  const std::unique_ptr<char, void (*)(char*)> owned(text, switchyard_text_free);
  return text;
}

/// Layer and Plan of the module.
void bind_plans(nanobind::module_& m);

}  // namespace switchyard::python
