#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <optional>
#include <string>

#include "moe/gpu_plan.h"
#include "moe/reference.h"
#include "switchyard/problem.h"

/// What the tests of whole layers on a GPU share.
namespace switchyard::moe {

/// Why nothing can be tested here; empty where it can.
std::optional<std::string> gpu_is_missing();

#define NEEDS_GPU() \
  if (const auto reason = gpu_is_missing()) GTEST_SKIP() << *reason

/// A random case on the host, and what the definition says about it.
struct GpuCase {
  MoeProblem problem;
  MoeCase made;
  MoeBuffers inputs;
  Reference exact, honest;

  /// `edit` may change what was made before the definition sees it.
  explicit GpuCase(std::string_view line, const std::function<void(MoeCase&)>& edit = {});

  struct Result {
    Tensor out, ids;
    MoeCounters counters;
  };
  /// Runs `given` instead of the case's own inputs, if there is one.
  Result run(const GpuLayer& layer, const GpuPlan& plan, const MoeBuffers* given = nullptr) const;
  /// Expects the definition's experts and an error of at most twice an honest run's.
  void expect_right(const Result& result) const;
};

/// At most twice as far from `exact` as `honest` is.
void expect_close(const Tensor& out, const Reference& exact, const Reference& honest);

/// A layer on the GPU and one plan of it with its kernels.
struct Planned {
  GpuLayer layer;
  GpuPlan plan;
  Planned(const GpuCase& c, int max_tokens);
  explicit Planned(const GpuCase& c) : Planned(c, c.problem.tokens) {}
};

/// Device copies of a case's arrays for enqueue(). Output and workspace have a guard behind them.
struct OnDevice {
  OnDevice(const Planned& planned, const GpuCase& c);

  /// Other values of the same shapes.
  void set_inputs(const Tensor& new_tokens, const Tensor& new_logits);
  /// Fills output and workspace with `poison`, enqueues, and brings the output back.
  Tensor run(unsigned char poison);
  Tensor result() const;
  /// Nothing was written behind the output or the workspace.
  void expect_guards() const;
  cuda::DeviceBuffer upload(const void* data, std::size_t bytes) const;
  void fill(const cuda::DeviceBuffer& buffer, unsigned char value, std::size_t bytes) const;

  const Planned& planned;
  cuda::Stream stream;
  cuda::DeviceBuffer tokens, logits, out, workspace;
  MoeBuffers buffers;
};

inline bool same(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.bytes())) == 0;
}

}  // namespace switchyard::moe
