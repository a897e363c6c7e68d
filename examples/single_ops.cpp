// The layer from its single operations, for engines that have a flow of their own.
#include <switchyard/switchyard.h>

#include <cmath>
#include <cstdio>

using namespace switchyard;

namespace {

Tensor wave(Shape shape, double step) {
  Tensor tensor(DType::f32, shape);
  for (std::int64_t i = 0; i < shape.elements(); ++i)
    tensor.as<float>()[i] = static_cast<float>(std::sin(step * static_cast<double>(i)));
  return tensor;
}

}  // namespace

int main() try {
  constexpr int kTokens = 5, kHidden = 64, kIntermediate = 32, kExperts = 4, kTopK = 2;
  constexpr int kRows = kTokens * kTopK;
  const Tensor tokens = wave({kTokens, kHidden}, 0.7);
  const Tensor logits = wave({kTokens, kExperts}, 1.3);
  const ExpertMatrix gate_up =
      quantize(wave({kExperts, 2 * kIntermediate, kHidden}, 0.11).view(), weight_format("mxfp4"));
  const ExpertMatrix down =
      quantize(wave({kExperts, kHidden, kIntermediate}, 0.13).view(), weight_format("mxfp4"));

  // [single_ops]
  Tensor ids(DType::i32, {kTokens, kTopK}), weights(DType::f32, {kTokens, kTopK});
  ops::RouteArgs route;
  route.logits = logits.view();
  route.expert_ids = ids.view();
  route.expert_weights = weights.view();
  ops::route(Routing{}, route);

  Tensor offsets(DType::i64, {kExperts + 1}), rows(DType::i32, {kRows});
  ops::group_by_expert(ids.view(), offsets.view(), rows.view());

  const Activation swiglu = activation(ActivationKind::swiglu);
  Tensor hidden(DType::f32, {kRows, kIntermediate}), expert_out(DType::f32, {kRows, kHidden});
  ops::GroupedGemmArgs first;
  first.x = tokens.view();
  first.offsets = offsets.view();
  first.rows = rows.view();  // gathers the tokens of each expert
  first.top_k = kTopK;
  first.weights = &gate_up;
  first.activation = &swiglu;
  first.out = hidden.view();
  ops::grouped_gemm(first);

  ops::GroupedGemmArgs second;
  second.x = hidden.view();  // already grouped: no rows
  second.offsets = offsets.view();
  second.weights = &down;
  second.out = expert_out.view();
  ops::grouped_gemm(second);

  Tensor out(DType::f32, {kTokens, kHidden});
  ops::FinalizeArgs finalize;
  finalize.expert_out = expert_out.view();
  finalize.rows = rows.view();
  finalize.expert_weights = weights.view();
  finalize.out = out.view();
  ops::finalize(finalize);
  // [single_ops]

  std::printf("token 0 went to experts %d and %d; out[0, 0] = %g\n", ids.as<std::int32_t>()[0],
              ids.as<std::int32_t>()[1], static_cast<double>(out.as<float>()[0]));
  return std::isfinite(out.as<float>()[0]) ? 0 : 1;
} catch (const switchyard::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
