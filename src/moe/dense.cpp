#include "switchyard/dense.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "ops/dense_moe/gpu.h"
#include "ops/repack/upload.h"

namespace switchyard::dense {
namespace {

dense_moe::GpuProblem internal(const Problem& p) {
  const auto out = [&] {
    switch (p.out) {
      case DType::f4_e2m1:
        return dense_moe::Out::fp4;
      case DType::bf16:
        return dense_moe::Out::bf16;
      case DType::f16:
        return dense_moe::Out::fp16;
      case DType::f32:
        return dense_moe::Out::f32;
      default:
        throw InvalidArgument(
            fmt::format("[dense] out: expected bf16, f16, f32 or f4_e2m1, got {}.", name(p.out)));
    }
  };
  require(p.tokens >= 0 && p.experts > 0 && p.hidden > 0 && p.intermediate > 0,
          "[dense] expected 0 or more tokens and positive sizes, got t={} e={} h={} i={}.",
          p.tokens, p.experts, p.hidden, p.intermediate);
  return {.phase = p.phase == Phase::fc1 ? dense_moe::Phase::fc1 : dense_moe::Phase::fc2,
          .tokens = p.tokens,
          .experts = p.experts,
          .hidden = p.hidden,
          .intermediate = p.intermediate,
          .out = out(),
          .post = p.phase == Phase::fc1 && p.alpha_post};
}

cuda::DeviceInfo info(Device device) {
  require(device.kind == DeviceKind::cuda, "[dense] device: expected cuda, got {}.",
          to_string(device));
  return cuda::Context::open(device.ordinal).info();
}

std::optional<dense_moe::Tactic> find(const dense_moe::GpuProblem& p, std::string_view name,
                                      const cuda::DeviceInfo& device) {
  if (name.empty()) return std::nullopt;
  for (const dense_moe::Tactic& tactic : dense_moe::tactics(p, device))
    if (to_string(tactic) == name) return tactic;
  throw Unsupported(
      fmt::format("[dense] '{}' is no tactic of this problem: tactics() lists them.", name));
}

}  // namespace

std::optional<Decline> declines(const Problem& problem, Device device) {
  const dense_moe::GpuProblem p = internal(problem);
  const auto decline = dense_moe::declines(p, info(device));
  if (!decline) return std::nullopt;
  return Decline{dense_moe::name(decline->reason), decline->text};
}

std::vector<std::string> tactics(const Problem& problem, Device device) {
  std::vector<std::string> names;
  const dense_moe::GpuProblem p = internal(problem);
  for (const dense_moe::Tactic& tactic : dense_moe::tactics(p, info(device)))
    names.push_back(to_string(tactic));
  return names;
}

struct Gemm::State {
  State(const Problem& p, const ExpertMatrix& weights, int ordinal)
      : problem(internal(p)),
        context(cuda::Context::open(ordinal)),
        loader(context, std::make_shared<jit::Cache>(jit::cache_options_from_env())) {
    if (const auto decline = dense_moe::declines(problem, context.info()))
      throw Unsupported(
          fmt::format("[dense] {}: {}.", dense_moe::name(decline->reason), decline->text));
    check(weights, "weights");
    require(weights.format == weight_format("nvfp4"), "[dense] weights: expected nvfp4, got {}.",
            to_string(weights.format));
    const Shape expected = {problem.experts, problem.rows(), problem.width()};
    require(weights.elements.shape() == expected, "[dense] weights: expected {}, got {}.",
            to_string(expected), to_string(weights.elements.shape()));
    const std::uint8_t* scales = weights.scales.as<std::uint8_t>();
    require(std::all_of(scales, scales + weights.scales.bytes(),
                        [](std::uint8_t scale) { return scale <= 0x7e; }),
            "[dense] weights: expected scales from 0 to 448, got a negative one or NaN.");
    const repack::Matrix matrix = {.out = problem.rows(),
                                   .in = problem.width(),
                                   .order = problem.phase == dense_moe::Phase::fc1
                                                ? repack::RowOrder::gate_up
                                                : repack::RowOrder::plain};
    const cuda::Current current(context);
    const cuda::Stream stream(context);
    tiles =
        cuda::DeviceBuffer(context, static_cast<std::size_t>(repack::tile_count(matrix)) *
                                        static_cast<std::size_t>(problem.experts) *
                                        static_cast<std::size_t>(dense_moe::Config::kTileBytes));
    const auto bytes = [](const Tensor& t) {
      return std::span(t.as<std::byte>(), static_cast<std::size_t>(t.bytes()));
    };
    repack::upload_fp4({context, stream, loader}, matrix, problem.experts,
                       {.weights = Weights::nvfp4,
                        .codes = bytes(weights.elements),
                        .scales = bytes(weights.scales),
                        .shift = 0},
                       tiles.data());
  }

  void use(std::string_view tactic) {
    gemm.emplace(context, loader, problem, find(problem, tactic, context.info()));
    name = to_string(gemm->tactic());
  }

  dense_moe::GpuProblem problem;
  cuda::Context context;
  jit::Loader loader;
  cuda::DeviceBuffer tiles;
  std::optional<dense_moe::GpuGemm> gemm;
  std::string name;
};

Gemm::Gemm(const Problem& problem, const ExpertMatrix& weights, Device device,
           std::string_view tactic) {
  require(device.kind == DeviceKind::cuda, "[dense] device: expected cuda, got {}.",
          to_string(device));
  state_ = std::make_unique<State>(problem, weights, device.ordinal);
  state_->use(tactic);
}
Gemm::Gemm(Gemm&&) noexcept = default;
Gemm& Gemm::operator=(Gemm&&) noexcept = default;
Gemm::~Gemm() = default;  // freeing the weights waits for the device

void Gemm::use(std::string_view tactic) {
  state_->use(tactic);
}
const std::string& Gemm::tactic() const noexcept {
  return state_->name;
}
std::size_t Gemm::workspace_bytes() const noexcept {
  return state_->gemm->scratch_bytes();
}

void Gemm::enqueue(const Call& call, Stream stream) const {
  const dense_moe::GpuProblem& p = state_->problem;
  require(call.tokens >= 0 && call.tokens <= p.tokens,
          "[dense] tokens: expected 0 to {}, got {}. Make a Gemm for more.", p.tokens, call.tokens);
  const auto given = [](const void* data, std::string_view what) {
    require(data != nullptr, "[dense] {}: expected a device array, got null.", what);
  };
  given(call.x, "x"), given(call.x_scales, "x_scales"), given(call.alpha, "alpha");
  given(call.out, "out"), given(call.workspace, "workspace");
  if (p.post) given(call.alpha_post, "alpha_post");
  if (p.out == dense_moe::Out::fp4) {
    given(call.out_scales, "out_scales");
    require(call.norm_const > 0 && std::isfinite(call.norm_const),
            "[dense] norm_const: expected a positive number, got {}.", call.norm_const);
  }
  const cuda::Current current(state_->context);
  state_->gemm->enqueue(call.tokens,
                        {.weights = state_->tiles.data(),
                         .x = static_cast<const std::byte*>(call.x),
                         .x_scales = static_cast<const std::byte*>(call.x_scales),
                         .alpha = call.alpha,
                         .token_stride = call.token_major ? 1 : p.experts,
                         .expert_stride = call.token_major ? call.tokens : 1,
                         .alpha_post = call.alpha_post,
                         .experts = call.experts,
                         .norm_const = call.norm_const,
                         .out = static_cast<std::byte*>(call.out),
                         .out_scales = static_cast<std::byte*>(call.out_scales)},
                        static_cast<std::byte*>(call.workspace),
                        static_cast<cuda::CUstream>(stream.handle));
}

}  // namespace switchyard::dense
