// A layer from arrays in memory: quantised to NVFP4, planned, run and checked.
#include <switchyard/switchyard.h>

#include <cstdio>
#include <random>
#include <utility>

using namespace switchyard;

namespace {

Tensor random_tensor(Shape shape, float scale, std::mt19937& engine) {
  Tensor tensor(DType::f32, shape);
  std::uniform_real_distribution<float> uniform(-scale, scale);
  for (std::int64_t i = 0; i < shape.elements(); ++i) tensor.as<float>()[i] = uniform(engine);
  return tensor;
}

}  // namespace

int main() try {
  constexpr int kTokens = 6, kHidden = 128, kIntermediate = 64, kExperts = 8;
  std::mt19937 engine(7);
  const Tensor gate_up = random_tensor({kExperts, 2 * kIntermediate, kHidden}, 0.2F, engine);
  const Tensor down = random_tensor({kExperts, kHidden, kIntermediate}, 0.2F, engine);
  const Tensor tokens = random_tensor({kTokens, kHidden}, 1, engine);
  const Tensor logits = random_tensor({kTokens, kExperts}, 3, engine);

  // [own_weights]
  MoeConfig config;
  config.hidden = kHidden;
  config.intermediate = kIntermediate;
  config.experts = kExperts;
  config.top_k = 2;
  config.routing.method = RoutingMethod::softmax_renormalize;
  config.activation = activation(ActivationKind::swiglu);

  MoeWeights weights;
  const WeightFormat nvfp4 = weight_format("nvfp4");
  weights.experts.gate_up = quantize(gate_up.view(), nvfp4, /*parts=*/2);  // [E, 2I, H], gate first
  weights.experts.down = quantize(down.view(), nvfp4);                     // [E, H, I]

  Tensor out(DType::f32, {kTokens, kHidden});
  MoeBuffers buffers;
  buffers.tokens = tokens.view();
  buffers.router_logits = logits.view();  // the layer has no router of its own here
  buffers.out = out.view();
  const CheckReport report = check(config, weights, buffers);  // against the definition in f64

  const MoeLayer layer(config, std::move(weights));
  const MoePlan plan = layer.plan(kTokens);
  Tensor workspace(DType::u8, {static_cast<std::int64_t>(plan.workspace_bytes())});
  buffers.workspace = {workspace.as<std::byte>(), plan.workspace_bytes()};
  plan.run(buffers);
  // [own_weights]

  std::printf("%s", plan.explain().c_str());
  std::printf("out[0, 0] = %g, check %s (error %.2f)\n", static_cast<double>(out.as<float>()[0]),
              report.passed ? "passed" : "FAILED", report.error_ratio);
  return report.passed ? 0 : 1;
} catch (const switchyard::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
