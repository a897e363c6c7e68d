// Checkpoints and outputs of transformers' own MoE blocks (tests/fixtures/README.md), end to end:
// logits from the router's weights, routing, experts. Activations were not quantised there.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "moe/closeness.h"
#include "moe/reference.h"
#include "moe/values.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using moe::Rounding;
using moe::Values;

constexpr std::size_t kTokens = 12;

/// A build that was carried to another machine runs in the root of its tree.
fs::path fixtures() {
  const fs::path here = fs::path(SWITCHYARD_SOURCE_DIR) / "tests/fixtures";
  return fs::exists(here) ? here : fs::path("tests/fixtures");
}

std::vector<std::string> directories() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(fixtures()))
    if (fs::exists(entry.path() / "config.json")) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// Experts of a token with their weights, by id.
std::vector<std::pair<int, double>> by_id(const std::int32_t* ids, const double* weights,
                                          std::size_t k) {
  std::vector<std::pair<int, double>> pairs;
  for (std::size_t j = 0; j < k; ++j) pairs.emplace_back(ids[j], weights[j]);
  std::sort(pairs.begin(), pairs.end());
  return pairs;
}

struct Loaded {
  MoeConfig config;
  MoeWeights weights;
  TensorFile file;
  std::string layer;

  const Tensor* find(const std::string& what) const {
    const auto at = file.tensors.find(layer + "." + what);
    return at == file.tensors.end() ? nullptr : &at->second;
  }
  Values values(const std::string& what) const { return moe::load(*find(what)); }
  MoeBuffers inputs() const {
    MoeBuffers buffers;
    buffers.tokens = find("tokens")->view();
    if (find("input_ids")) buffers.input_ids = find("input_ids")->view();
    buffers.out = {nullptr, DType::bf16, buffers.tokens.shape};
    return buffers;
  }
};

class FixtureTest : public testing::TestWithParam<std::string> {
 protected:
  std::vector<Loaded> load() const {
    const fs::path directory = fixtures() / GetParam();
    const Checkpoint checkpoint = Checkpoint::open(directory);
    std::vector<Loaded> layers;
    for (const CheckpointLayer& layer : checkpoint.layers()) {
      Loaded loaded{.config = checkpoint.config(layer.layer),
                    .weights = checkpoint.load(layer.layer),
                    .file = read_tensors(directory / "expected.safetensors"),
                    .layer = std::to_string(layer.layer)};
      loaded.config.act = ActivationFormat::bf16;
      layers.push_back(std::move(loaded));
    }
    return layers;
  }

  static void expect_routing(const Loaded& loaded, const moe::Routed& routed, double tolerance) {
    const auto k = static_cast<std::size_t>(loaded.config.top_k);
    const Values weights = loaded.values("expert_weights_exact");
    const auto* ids = loaded.find("expert_ids")->as<std::int32_t>();
    // MiniMax-M3's block in transformers scales the sum instead of the weights.
    const bool after = loaded.config.routing.scaling != 1 && GetParam().starts_with("minimax_m3");
    const double scale = after ? static_cast<double>(loaded.config.routing.scaling) : 1;
    for (std::size_t t = 0; t < kTokens; ++t) {
      const auto want = by_id(ids + t * k, &weights[t * k], k);
      const auto got = by_id(&routed.ids[t * k], &routed.weights[t * k], k);
      for (std::size_t j = 0; j < k; ++j) {
        EXPECT_EQ(got[j].first, want[j].first) << "token " << t;
        EXPECT_NEAR(got[j].second, want[j].second * scale, tolerance * scale) << "token " << t;
      }
    }
  }
};

TEST_P(FixtureTest, TheDefinitionIsTransformers) {
  for (const Loaded& loaded : load()) {
    SCOPED_TRACE("layer " + loaded.layer);
    const moe::Reference ours =
        moe::reference(loaded.config, loaded.weights, loaded.inputs(), Rounding::exact);
    expect_routing(loaded, ours.routed, 1e-6);
    const Values exact = loaded.values("output_exact");
    double scale = 0;
    for (const double x : exact) scale = std::max(scale, std::abs(x));
    for (std::size_t i = 0; i < exact.size(); ++i)
      ASSERT_NEAR(ours.out[i], exact[i], 2e-6 * scale) << "element " << i;
  }
}

TEST_P(FixtureTest, RoutesTheLogitsOfTheBf16RunAlike) {
  for (const Loaded& loaded : load()) {
    SCOPED_TRACE("layer " + loaded.layer);
    MoeBuffers inputs = loaded.inputs();
    inputs.router_logits = loaded.find("router_logits")->view();
    expect_routing(loaded,
                   moe::reference_route(loaded.config, loaded.weights, inputs, Rounding::honest),
                   0.03 * std::max(1.0F, loaded.config.routing.scaling));
  }
}

TEST_P(FixtureTest, TheLayerIsAsGoodAsAnHonestBf16Run) {
  for (Loaded& loaded : load()) {
    SCOPED_TRACE("layer " + loaded.layer);
    const Values exact = loaded.values("output_exact"), honest = loaded.values("output_bf16");
    MoeBuffers buffers = loaded.inputs();
    Tensor out(DType::bf16, buffers.tokens.shape);
    const MoeLayer layer(loaded.config, std::move(loaded.weights));
    const MoePlan plan = layer.plan(static_cast<int>(kTokens));
    Tensor workspace(DType::u8, {static_cast<std::int64_t>(plan.workspace_bytes())});
    buffers.out = out.view();
    buffers.workspace = {static_cast<std::byte*>(workspace.data()), plan.workspace_bytes()};
    plan.run(buffers);
    const moe::Closeness close = moe::compare(moe::load(out), honest, exact, kTokens, 0);
    EXPECT_TRUE(close.finite_match);
    EXPECT_LT(close.zeros, 0.5);
    EXPECT_LE(close.worst_ratio, 2) << "at element " << close.worst;
  }
}

INSTANTIATE_TEST_SUITE_P(All, FixtureTest, testing::ValuesIn(directories()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace switchyard
