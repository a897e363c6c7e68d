// The kernels of torch.ops.switchyard.moe and moe_out, through PyTorch's C interface: a call runs
// no Python, unless there is no plan for its tokens or PyTorch records gradients.

#include "python/src/operators.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "python/src/errors.h"
#include "python/src/failure.h"
#include "python/src/handles.h"
#include "python/src/libtorch.h"
#include "python/src/tensors.h"
#include "switchyard/c_api.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace switchyard::python {
namespace {

using libtorch::copy_of;
using libtorch::functions;
using libtorch::make;
using libtorch::OwnedTensor;
using libtorch::row_major;
using libtorch::Tensor;
using libtorch::Value;
using libtorch::View;
using libtorch::view_of;

/// The plans of layers by the layers' numbers. Calls look here without Python's lock.
class PlanTable {
 public:
  void set(std::int64_t layer, std::vector<Plan> plans) {
    const std::unique_lock lock(mutex_);
    plans_[layer].swap(plans);  // the old ones end after the lock, like the node below
  }
  void erase(std::int64_t layer) {
    decltype(plans_)::node_type old;
    const std::unique_lock lock(mutex_);
    old = plans_.extract(layer);
  }
  /// The smallest for `tokens`; empty if there is none.
  Plan find(std::int64_t layer, std::int64_t tokens) const {
    const std::shared_lock lock(mutex_);
    if (const auto found = plans_.find(layer); found != plans_.end())
      for (const Plan& plan : found->second)
        if (plan.max_tokens >= tokens) return plan;
    return {};
  }

 private:
  mutable std::shared_mutex mutex_;
  std::unordered_map<std::int64_t, std::vector<Plan>> plans_;  // the smallest first
};

/// What is left at the process's end stays: the driver may be gone before it.
struct State {
  PlanTable table;
  nb::object make_plan;  ///< (layer, tokens): makes the plan that the table has not
};
State& state() {
  static State& all = *new State;
  return all;
}

Plan plan_for(std::int64_t layer, std::int64_t tokens) {
  Plan plan = state().table.find(layer, tokens);
  if (plan.handle != nullptr) return plan;
  const nb::gil_scoped_acquire gil;
  try {
    state().make_plan(layer, tokens);
  } catch (nb::python_error& error) {
    throw Failure(std::make_shared<nb::python_error>(std::move(error)));
  }
  return state().table.find(layer, tokens);
}

/// An operator's arguments in their order; from router_logits to input_ids they may be None.
enum Argument { kLayer, kTokens, kRouterLogits, kExpertIds, kExpertWeights, kInputIds, kOut };

/// Takes the first `count` from the stack.
class Arguments {
 public:
  Arguments(const Value* stack, int count) noexcept : stack_(stack), count_(count) {}
  Arguments(const Arguments&) = delete;
  Arguments& operator=(const Arguments&) = delete;
  ~Arguments() {
    for (int i = kTokens; i < count_; ++i) {
      if ((*this)[i] != nullptr) functions().delete_handle((*this)[i]);
      if (optional(i)) delete reinterpret_cast<const Value*>(stack_[i]);
    }
  }

  std::int64_t layer() const noexcept { return static_cast<std::int64_t>(stack_[kLayer]); }
  Tensor operator[](int i) const noexcept {
    if (!optional(i)) return reinterpret_cast<Tensor>(stack_[i]);
    return stack_[i] == 0 ? nullptr
                          : reinterpret_cast<Tensor>(*reinterpret_cast<const Value*>(stack_[i]));
  }

 private:
  static bool optional(int i) noexcept { return i >= kRouterLogits && i <= kInputIds; }

  const Value* stack_;
  int count_;
};

/// The call's arrays, with copies of inputs where rows have gaps, of ids that are not i32 and of
/// weights that are not f32.
class Call {
 public:
  Call(const Arguments& arguments, const View& tokens, Tensor out) {
    call_.struct_size = sizeof call_;
    call_.tokens = take(kTokens, arguments[kTokens], tokens, tokens.dtype);
    call_.router_logits = take(kRouterLogits, arguments);
    call_.expert_ids = take(kExpertIds, arguments, functions().int32);
    call_.expert_weights = take(kExpertWeights, arguments, functions().float32);
    call_.input_ids = take(kInputIds, arguments);
    views_[kOut] = view_of(out);
    call_.out = &views_[kOut].tensor;
  }

  void run(const Plan& plan) {
    const bool on_gpu = views_[kTokens].device == functions().cuda;
    const int status = on_gpu && plan.on_gpu ? enqueue(plan) : run_and_wait(plan);
    if (status != SWITCHYARD_OK) throw Failure(status, switchyard_last_error());
  }

 private:
  int enqueue(const Plan& plan) {
    const auto device = views_[kTokens].tensor.device;
    const libtorch::GpuBytes data = libtorch::gpu_bytes(plan.workspace_bytes, device.id);
    auto size = static_cast<std::int64_t>(plan.workspace_bytes);
    const SwitchyardTensor workspace = {.data = data.get(),
                                        .device = {device.type, device.id},
                                        .ndim = 1,
                                        .dtype = {1, 8, 1},
                                        .shape = &size,
                                        .strides = nullptr,
                                        .byte_offset = 0};
    call_.workspace = &workspace;
    void* stream = nullptr;
    libtorch::check(functions().current_cuda_stream(device.id, &stream), "the stream");
    return switchyard_plan_enqueue(plan.get(), &call_, stream);
  }

  /// With arrays on the host, or with some that lie where the layer does not.
  int run_and_wait(const Plan& plan) {
    if (plan.on_gpu) return switchyard_plan_run(plan.get(), &call_, nullptr);
    const auto size = static_cast<std::int64_t>(plan.workspace_bytes);
    const OwnedTensor bytes = make(&size, 1, functions().uint8, views_[kTokens]);
    const View workspace = view_of(bytes.get());
    call_.workspace = &workspace.tensor;
    return switchyard_plan_run(plan.get(), &call_, nullptr);
  }

  const SwitchyardTensor* take(Argument which, const Arguments& arguments, std::int32_t type = -1) {
    const Tensor given = arguments[which];
    if (given == nullptr) return nullptr;
    const View view = view_of(given);
    return take(which, given, view, type < 0 ? view.dtype : type);
  }

  const SwitchyardTensor* take(Argument which, Tensor given, const View& view, std::int32_t type) {
    views_[which] = view;
    if (type != view.dtype || !row_major(view.tensor)) {
      copies_[which] = copy_of(given, view, type);
      views_[which] = view_of(copies_[which].get());
    }
    return &views_[which].tensor;
  }

  View views_[kOut + 1];
  OwnedTensor copies_[kOut];
  SwitchyardCall call_ = {};
};

void run(const Arguments& arguments, const View& tokens, Tensor out) {
  const std::int64_t count = tokens.tensor.ndim == 0 ? 0 : tokens.tensor.shape[0];
  const Plan plan = plan_for(arguments.layer(), count);
  Call(arguments, tokens, out).run(plan);
}

/// What Python's kernel _moe_recorded raised, which PyTorch would only log.
thread_local std::shared_ptr<nb::python_error> kept;

void call_recorded(Value* stack) {
  libtorch::check(functions().call("switchyard::_moe_recorded", "", stack, libtorch::kVersion),
                  "moe");
  if (kept == nullptr) return;
  functions().delete_handle(reinterpret_cast<Tensor>(stack[0]));
  const nb::gil_scoped_acquire gil;
  throw Failure(std::exchange(kept, nullptr));
}

void moe(Value* stack, std::uint64_t, std::uint64_t) {
  if (functions().grad_mode_is_enabled()) return call_recorded(stack);
  OwnedTensor out;
  {
    const Arguments arguments(stack, kOut);
    const View tokens = view_of(arguments[kTokens]);
    out = make(tokens.tensor.shape, tokens.tensor.ndim, tokens.dtype, tokens);
    run(arguments, tokens, out.get());
  }
  stack[0] = reinterpret_cast<Value>(out.release());
}

void moe_out(Value* stack, std::uint64_t, std::uint64_t) {
  const Arguments arguments(stack, kOut + 1);
  run(arguments, view_of(arguments[kTokens]), arguments[kOut]);
}

void implement(const char* backend) {
  const libtorch::Functions& torch = functions();
  void* library = nullptr;  // the kernels are there as long as this, which is for ever
  if (torch.new_library("switchyard", backend, __FILE__, __LINE__, &library) != 0 ||
      torch.implement(library, "moe", moe, libtorch::kVersion) != 0 ||
      torch.implement(library, "moe_out", moe_out, libtorch::kVersion) != 0)
    raise(SWITCHYARD_INTERNAL, "[torch] PyTorch did not take the operators' kernels.");
}

}  // namespace

void bind_operators(nb::module_& m) {
  m.def(
      "implement_operators",
      [](nb::object make_plan) {
        state().make_plan = std::move(make_plan);
        for (const char* backend : {"CPU", "CUDA"}) implement(backend);
      },
      "make_plan"_a);
  m.def(
      "set_plans",
      [](std::int64_t layer, std::vector<Plan> plans) {
        state().table.set(layer, std::move(plans));
      },
      "layer"_a, "plans"_a);
  m.def(
      "erase_plans", [](std::int64_t layer) { state().table.erase(layer); }, "layer"_a);
  m.def(
      "keep_error",
      [](nb::object error) {
        PyErr_SetObject(error.type().ptr(), error.ptr());
        kept = std::make_shared<nb::python_error>();
      },
      "error"_a);
}

}  // namespace switchyard::python
