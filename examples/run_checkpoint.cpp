// Runs the first MoE layer of a checkpoint: run_checkpoint DIR
#include <cstdio>

// [run_checkpoint]
#include <switchyard/switchyard.h>

using namespace switchyard;

Tensor run_first_layer(const char* directory, const Tensor& tokens) {
  const Checkpoint checkpoint = Checkpoint::open(directory);
  const int index = checkpoint.layers().front().layer;
  const MoeLayer layer(checkpoint.config(index), checkpoint.load(index));

  const int batch = static_cast<int>(tokens.shape()[0]);
  const MoePlan plan = layer.plan(/*max_tokens=*/batch);  // once per batch size bucket
  Tensor workspace(DType::u8, {static_cast<std::int64_t>(plan.workspace_bytes())});

  Tensor out(tokens.dtype(), tokens.shape());
  MoeBuffers buffers;
  buffers.tokens = tokens.view();  // [T, H]
  buffers.out = out.view();        // [T, H]
  buffers.workspace = {workspace.as<std::byte>(), plan.workspace_bytes()};
  plan.run(buffers);  // every call: no allocation, same bits every time
  return out;
}
// [run_checkpoint]

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::fprintf(stderr, "usage: run_checkpoint DIR\n");
    return 2;
  }
  const MoeConfig config = Checkpoint::open(argv[1]).layers().front().config;
  Tensor tokens(DType::f32, {4, config.hidden});
  for (std::int64_t i = 0; i < tokens.shape().elements(); ++i)
    tokens.as<float>()[i] = static_cast<float>(i % 7) - 3;
  const Tensor out = run_first_layer(argv[1], tokens);
  std::printf("%s: out[0, 0] = %g\n", to_string(out.shape()).c_str(),
              static_cast<double>(out.as<float>()[0]));
  return 0;
} catch (const switchyard::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
