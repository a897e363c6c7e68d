#include "tests/gpu/support.h"

#include <algorithm>
#include <vector>

#include "cuda/driver.h"
#include "formats/convert.h"
#include "jit/nvrtc.h"
#include "moe/closeness.h"

namespace switchyard::moe {
namespace {

constexpr std::size_t kGuard = 4096;
constexpr unsigned char kGuardByte = 0x77;

Tensor as_fp16(const Tensor& bf16) {
  Tensor converted(DType::f16, bf16.shape());
  std::vector<float> values(static_cast<std::size_t>(converted.shape().elements()));
  const auto count = static_cast<std::int64_t>(values.size());
  formats::load_run(DType::bf16, bf16.data(), 0, count, values.data());
  formats::store_run(DType::f16, converted.data(), 0, count, values.data());
  return converted;
}

}  // namespace

std::optional<std::string> gpu_is_missing() {
  if (auto reason = cuda::driver_declines()) return reason;
  if (jit::nvrtc().declines) return jit::nvrtc().declines;
  // Kept for all tests: making a GPU's context takes longer than most of them.
  static const cuda::Context context = cuda::Context::open(0);
  if (context.info().sm / 10 != 9) return "needs sm_90, the device is " + to_string(context.info());
  return std::nullopt;
}

GpuCase::GpuCase(std::string_view line, const std::function<void(MoeCase&)>& edit)
    : problem(parse_problem(line)), made(make_case(problem, /*seed=*/7)) {
  if (made.config.act == ActivationFormat::fp16) made.tokens = as_fp16(made.tokens);
  if (edit) edit(made);
  inputs.tokens = made.tokens.view();
  inputs.router_logits = made.router_logits.view();
  inputs.input_ids = made.input_ids.view();
  inputs.out.dtype = inputs.tokens.dtype;
  exact = reference(made.config, made.weights, inputs, Rounding::exact);
  honest = reference(made.config, made.weights, inputs, Rounding::honest);
}

GpuCase::Result GpuCase::run(const GpuLayer& layer, const GpuPlan& plan,
                             const MoeBuffers* given) const {
  Result r{Tensor(inputs.tokens.dtype, made.tokens.shape()),
           Tensor(DType::i32, {problem.tokens, problem.config.top_k}),
           {}};
  MoeBuffers b = given ? *given : inputs;
  b.out = r.out.view();
  b.chosen_ids = r.ids.view();
  r.counters = run_gpu_from_host(layer, plan, b);
  return r;
}

void GpuCase::expect_right(const Result& r) const {
  EXPECT_TRUE(
      std::equal(exact.routed.ids.begin(), exact.routed.ids.end(), r.ids.as<std::int32_t>()));
  expect_close(r.out, exact, honest);
}

void expect_close(const Tensor& tensor, const Reference& exact, const Reference& honest) {
  std::vector<double> out(static_cast<std::size_t>(tensor.shape().elements()));
  formats::load_run(tensor.dtype(), tensor.data(), 0, static_cast<std::int64_t>(out.size()),
                    out.data());
  const double half_step = tensor.dtype() == DType::f16 ? 0x1p-12 : 0x1p-9;
  const Closeness close =
      compare(out, honest.out, exact.out, static_cast<std::size_t>(tensor.shape()[0]), half_step);
  EXPECT_TRUE(close.finite_match);
  EXPECT_LT(close.zeros, 0.5);
  EXPECT_LE(close.worst_ratio, 2.0) << "at element " << close.worst;
}

Planned::Planned(const GpuCase& c, int max_tokens)
    : layer(c.made.config, c.made.weights, 0),
      plan(make_gpu_plan(layer.shape(), max_tokens, layer.context().info())) {
  load(plan, layer);
}

OnDevice::OnDevice(const Planned& p, const GpuCase& c)
    : planned(p),
      stream(p.layer.context()),
      tokens(upload(c.made.tokens.data(), static_cast<std::size_t>(c.made.tokens.bytes()))),
      logits(upload(c.made.router_logits.data(),
                    static_cast<std::size_t>(c.made.router_logits.bytes()))),
      out(p.layer.context(), static_cast<std::size_t>(c.made.tokens.bytes()) + kGuard),
      workspace(p.layer.context(), p.plan.workspace_bytes + kGuard) {
  buffers.tokens = {tokens.data(), c.made.tokens.dtype(), c.made.tokens.shape()};
  buffers.router_logits = {logits.data(), DType::f32, c.made.router_logits.shape()};
  buffers.out = {out.data(), c.made.tokens.dtype(), c.made.tokens.shape()};
  buffers.workspace = {workspace.data(), p.plan.workspace_bytes};
  for (const cuda::DeviceBuffer* b : {&out, &workspace}) fill(*b, kGuardByte, b->bytes());
}

void OnDevice::set_inputs(const Tensor& new_tokens, const Tensor& new_logits) {
  tokens = upload(new_tokens.data(), static_cast<std::size_t>(new_tokens.bytes()));
  logits = upload(new_logits.data(), static_cast<std::size_t>(new_logits.bytes()));
  buffers.tokens.data = tokens.data();
  buffers.router_logits.data = logits.data();
}

Tensor OnDevice::run(unsigned char poison) {
  const cuda::Current current(planned.layer.context());
  fill(out, poison, out.bytes() - kGuard);
  fill(workspace, poison, workspace.bytes() - kGuard);
  run_gpu(planned.layer, planned.plan, buffers, stream.get());
  return result();
}

Tensor OnDevice::result() const {
  Tensor t(buffers.out.dtype, buffers.out.shape);
  cuda::copy_to_host(t.data(), out.data(), static_cast<std::size_t>(t.bytes()), stream.get());
  stream.synchronize();
  return t;
}

void OnDevice::expect_guards() const {
  for (const cuda::DeviceBuffer* b : {&out, &workspace}) {
    std::vector<unsigned char> guard(kGuard);
    cuda::copy_to_host(guard.data(), b->data() + b->bytes() - kGuard, kGuard, stream.get());
    stream.synchronize();
    EXPECT_TRUE(
        std::all_of(guard.begin(), guard.end(), [](unsigned char c) { return c == kGuardByte; }));
  }
}

cuda::DeviceBuffer OnDevice::upload(const void* data, std::size_t bytes) const {
  cuda::DeviceBuffer b(planned.layer.context(), bytes);
  cuda::copy_to_device(b.data(), data, bytes, stream.get());
  stream.synchronize();
  return b;
}

void OnDevice::fill(const cuda::DeviceBuffer& buffer, unsigned char value,
                    std::size_t bytes) const {
  cuda::fill(buffer.data(), value, bytes, stream.get());
  stream.synchronize();
}

}  // namespace switchyard::moe
