// Layouts that no fixture has, on matrices small enough to check by hand, and what a load reads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/families.h"
#include "checkpoint/state.h"
#include "formats/convert.h"
#include "tests/checkpoint/tiny_checkpoint.h"

namespace switchyard {
namespace {

using testing::complaint;
using ::testing::HasSubstr;
using testing::TinyCheckpoint;

float at(const ExpertMatrix& matrix, std::int64_t e, std::int64_t r, std::int64_t c) {
  const Tensor values = dequantize(matrix, DType::f32);
  return values.as<float>()[(e * matrix.out() + r) * matrix.in() + c];
}

TEST(Layouts, SignedInt4WithInverseScaleName) {  // W4AFP8
  TinyCheckpoint c;
  c.put_all("weight", DType::i8, 1, 0.5, 0xF3);  // low nibble 3, high nibble -1
  c.put_all("weight_scale_inv", DType::bf16, 1, 1.0 / 16);
  for (auto& [name, tensor] : c.file.tensors)
    if (name.ends_with("weight_scale_inv"))
      for (std::int64_t i = 0; i < tensor.shape().elements(); ++i)
        formats::store(DType::bf16, tensor.data(), i, 0.5);
  c.put_scalars("input_scale", 0.25F);
  const Checkpoint checkpoint = c.open();
  EXPECT_EQ(checkpoint.layer(0).scheme, "w4afp8");
  EXPECT_EQ(to_string(checkpoint.layer(0).gate_up), "int4_g16");
  EXPECT_EQ(checkpoint.layer(0).config.act, ActivationFormat::fp8_tensor);
  const MoeWeights weights = checkpoint.load(0);
  EXPECT_EQ(at(weights.experts.down, 1, 5, 2), 1.5F);
  EXPECT_EQ(at(weights.experts.down, 1, 5, 3), -0.5F);
  EXPECT_EQ(weights.experts.gate_up.input_scale.as<float>()[1], 0.25F);
}

/// [2, in, out] of f8 codes or bf16, whose value tells its row and column: out index + in / 64.
Tensor turned(std::int64_t in, std::int64_t out) {
  Tensor tensor(DType::bf16, {2, in, out});
  for (std::int64_t e = 0; e < 2; ++e)
    for (std::int64_t i = 0; i < in; ++i)
      for (std::int64_t o = 0; o < out; ++o)
        formats::store(DType::bf16, tensor.data(), (e * in + i) * out + o,
                       static_cast<double>(e * 64 + o));
  return tensor;
}

TEST(Layouts, FusedAndTransposed) {
  TinyCheckpoint c;
  c.config.replace(c.config.find("qwen3_moe"), 9, "llama4_text");
  c.file.tensors.insert_or_assign("model.layers.0.mlp.experts.gate_up_proj", turned(32, 32));
  c.file.tensors.insert_or_assign("model.layers.0.mlp.experts.down_proj", turned(16, 32));
  const Checkpoint checkpoint = c.open();
  const MoeWeights weights = checkpoint.load(0);
  EXPECT_EQ(at(weights.experts.gate_up, 1, 17, 3), 64 + 17);
  EXPECT_EQ(at(weights.experts.down, 1, 31, 3), 64 + 31);
  const MoeWeights part = checkpoint.load(0, {.tp = {1, 2}, .ep = {1, 2}, .progress = {}});
  EXPECT_EQ(part.experts.gate_up.elements.shape(), (Shape{1, 16, 32}));
  EXPECT_EQ(at(part.experts.gate_up, 0, 0, 3), 64 + 8);
  EXPECT_EQ(at(part.experts.gate_up, 0, 8, 3), 64 + 24);
  EXPECT_EQ(part.experts.down.elements.shape(), (Shape{1, 32, 8}));
}

TEST(Layouts, FusedFp8WithOneScale) {
  TinyCheckpoint c;
  c.config.replace(c.config.find("qwen3_moe"), 9, "llama4_text");
  for (const std::string_view base : {"gate_up_proj", "down_proj"}) {
    const std::string name = fmt::format("model.layers.0.mlp.experts.{}", base);
    c.put(name, DType::f8_e4m3, {2, base == "down_proj" ? 16 : 32, 32}, 0x38);
    Tensor scale(DType::f32, {});
    *scale.as<float>() = 0.125F;
    c.file.tensors.insert_or_assign(name + "_weight_scale", std::move(scale));
  }
  const Checkpoint checkpoint = c.open();
  EXPECT_EQ(to_string(checkpoint.layer(0).gate_up), "fp8_tensor");
  EXPECT_EQ(at(checkpoint.load(0).experts.gate_up, 1, 20, 7), 0.125F);
}

TEST(Layouts, KimiK3) {
  TinyCheckpoint c;
  c.config =
      R"({"text_config": {"model_type": "kimi_k3", "hidden_size": 64, "num_experts": 2,
          "num_experts_per_token": 1, "activation_situ_beta": 4.0, "num_hidden_layers": 2,
          "activation_situ_linear_beta": 25.0, "routed_scaling_factor": 1.5, "rms_norm_eps": 1e-5}})";
  c.file.tensors.clear();
  const std::string prefix = "language_model.model.layers.1.block_sparse_moe.";
  for (int e = 0; e < 2; ++e)
    for (const std::string_view base : {"w1", "w2", "w3"}) {
      const std::string name = fmt::format("{}experts.{}.{}.", prefix, e, base);
      c.put(name + "weight_packed", DType::u8, {32, 16}, 0x22);
      c.put(name + "weight_scale", DType::u8, {32, 1}, 128);  // 2^1
    }
  c.put(prefix + "gate.weight", DType::bf16, {2, 64});
  c.put(prefix + "gate.e_score_correction_bias", DType::f32, {2});
  c.put(prefix + "routed_expert_down_proj.weight", DType::bf16, {32, 64});
  c.put(prefix + "routed_expert_norm.weight", DType::bf16, {32});
  c.put(prefix + "routed_expert_up_proj.weight", DType::bf16, {64, 32});
  c.put(prefix + "shared_experts.gate_proj.weight", DType::bf16, {96, 64});
  c.put(prefix + "shared_experts.up_proj.weight", DType::bf16, {96, 64});
  c.put(prefix + "shared_experts.down_proj.weight", DType::bf16, {64, 96});
  const Checkpoint checkpoint = c.open();
  EXPECT_EQ(checkpoint.family(), "kimi_k3");
  const CheckpointLayer& layer = checkpoint.layer(1);
  EXPECT_EQ(layer.scheme, "compressed-tensors mxfp4");
  EXPECT_EQ(layer.config.latent, 32);
  EXPECT_EQ(layer.config.hidden, 64);
  EXPECT_EQ(layer.config.shared_intermediate, 96);
  EXPECT_EQ(layer.config.activation.kind, ActivationKind::situ);
  EXPECT_EQ(layer.config.activation.linear_beta, 25);
  EXPECT_EQ(layer.config.routing.method, RoutingMethod::sigmoid_bias);
  EXPECT_EQ(layer.config.routing.scaling, 1.5F);
  const MoeWeights weights = checkpoint.load(1);
  EXPECT_EQ(at(weights.experts.gate_up, 1, 40, 3), 2);
  EXPECT_EQ(weights.latent_up.shape(), (Shape{64, 32}));
  EXPECT_TRUE(weights.latent_norm);
  EXPECT_THAT(complaint([&] {
                checkpoint.load(1, {.tp = {0, 2}, .ep = {}, .progress = {}});
              }),
              HasSubstr("the norm behind the experts needs the whole sum"));
}

TEST(Layouts, TensorsTellTheFamilyWhereTheConfigDoesNot) {
  const std::pair<std::string_view, std::string_view> signatures[] = {
      {"routed_expert_norm.weight", "kimi_k3"},
      {"gate.tid2eid", "deepseek_v4"},
      {"fc1_latent_proj.weight", "nemotron_h"}};
  for (const auto& [leaf, family] : signatures) {
    checkpoint::LayerTensors layer;
    layer.leaves.emplace_back().name = leaf;
    EXPECT_EQ(checkpoint::find_family(checkpoint::ModelConfig(), layer).name, family);
  }
}

TEST(Layouts, GptOssOriginalNames) {
  TinyCheckpoint c;
  c.config = R"({"num_hidden_layers": 1, "num_experts": 2, "experts_per_token": 1,
                 "hidden_size": 32, "intermediate_size": 32, "swiglu_limit": 7.0})";
  c.file.tensors.clear();
  const std::string prefix = "block.0.mlp.";
  c.put(prefix + "mlp1_weight.blocks", DType::u8, {2, 64, 1, 16});
  auto* const codes = c.file.tensors.at(prefix + "mlp1_weight.blocks").as<std::uint8_t>();
  for (int row = 0; row < 128; ++row)  // gate rows 1, up rows 2
    std::memset(codes + row * 16, row % 2 == 0 ? 0x22 : 0x44, 16);
  c.put(prefix + "mlp1_weight.scales", DType::u8, {2, 64, 1}, 127);
  c.put(prefix + "mlp2_weight.blocks", DType::u8, {2, 32, 1, 16}, 0x22);
  c.put(prefix + "mlp2_weight.scales", DType::u8, {2, 32, 1}, 127);
  c.put(prefix + "mlp1_bias", DType::bf16, {2, 64});
  c.put(prefix + "mlp2_bias", DType::bf16, {2, 32});
  c.put(prefix + "gate.weight", DType::bf16, {2, 32});
  c.put(prefix + "gate.bias", DType::bf16, {2});
  const Checkpoint checkpoint = c.open();
  EXPECT_EQ(checkpoint.family(), "gpt_oss");
  const MoeWeights weights = checkpoint.load(0);
  EXPECT_EQ(at(weights.experts.gate_up, 1, 31, 5), 1);
  EXPECT_EQ(at(weights.experts.gate_up, 1, 32, 5), 2);
  EXPECT_TRUE(weights.router_bias);
  EXPECT_TRUE(weights.experts.down.bias);
}

TEST(Layouts, PredictionLayersAreKeptApart) {
  TinyCheckpoint c;
  TinyCheckpoint::bf16(c);
  for (int e = 0; e < 2; ++e)
    for (const std::string_view base : {"gate_proj", "up_proj", "down_proj"})
      for (const std::string_view stem : {"model.layers.1.mlp.", "mtp.layers.0.mlp.", "mtp.0.ffn."})
        c.put(fmt::format("{}experts.{}.{}.weight", stem, e, base), DType::bf16, {16, 16});
  EXPECT_EQ(c.open().layers().size(), 1U);
}

struct Bytes {
  std::int64_t whole = 0, parts = 0;
};

Bytes count_bytes(const std::filesystem::path& directory, int tp, int ep) {
  const auto state = open_state(directory);
  const checkpoint::LayerPlan& plan = state->plans.back();
  Bytes bytes;
  load_layer(plan, state->catalogue, {}, &bytes.whole);
  for (int t = 0; t < tp; ++t)
    for (int e = 0; e < ep; ++e) {
      std::int64_t part = 0;
      const Part tp_part{t, tp}, ep_part{e, ep};
      load_layer(plan, state->catalogue, {.tp = tp_part, .ep = ep_part, .progress = {}}, &part);
      bytes.parts += part - plan.router->total_bytes();
    }
  bytes.whole -= plan.router->total_bytes();
  return bytes;
}

TEST(Load, ReadsTheBytesOfItsPartAlone) {
  const auto fixtures = std::filesystem::path(SWITCHYARD_SOURCE_DIR) / "tests/fixtures";
  for (const std::string_view name : {"mixtral_bf16", "qwen3_moe_bf16", "qwen3_vl_moe_bf16",
                                      "qwen3_5_moe_bf16", "llama4_modelopt_nvfp4"}) {
    SCOPED_TRACE(name);
    const Bytes ep = count_bytes(fixtures / name, 1, 2);
    // Parts differ in nothing but scalars that several of them read, such as all input scales.
    EXPECT_GE(ep.parts, ep.whole);
    EXPECT_LE(ep.parts, ep.whole + 128);
    const Bytes tp = count_bytes(fixtures / name, 2, 1);
    EXPECT_GE(tp.parts, tp.whole);
    EXPECT_LE(tp.parts, tp.whole + 256);
  }
}

TEST(Load, ExpertSlicesShareTheLargestInputScaleOfAllExperts) {
  for (const bool inverse : {false, true}) {
    TinyCheckpoint c;
    const std::string_view key = inverse ? "input_global_scale" : "input_scale";
    if (inverse) {
      c.put_all("weight_packed", DType::u8, 1, 0.5, 0x22);
      c.put_all("weight_scale", DType::f8_e4m3, 1, 1.0 / 16, 0x38);
      c.put_scalars("weight_global_scale", 2);
    } else {
      TinyCheckpoint::nvfp4(c);
    }
    c.put_scalars(key, inverse ? 4 : 0.25F);
    const auto set = [&](int expert, std::string_view base, float scale) {
      *c.file.tensors.at(TinyCheckpoint::name(expert, fmt::format("{}.{}", base, key)))
           .as<float>() = inverse ? 1 / scale : scale;
    };
    set(1, "up_proj", 8);
    set(0, "down_proj", 2);
    const Checkpoint checkpoint = c.open();
    for (int rank = 0; rank < 2; ++rank) {
      const MoeWeights part = checkpoint.load(0, {.tp = {}, .ep = {rank, 2}, .progress = {}});
      ASSERT_EQ(part.experts.gate_up.input_scale.shape(), Shape{1});
      EXPECT_EQ(*part.experts.gate_up.input_scale.as<float>(), 8);
      EXPECT_EQ(*part.experts.down.input_scale.as<float>(), 2);
    }
    const MoeWeights whole = checkpoint.load(0);
    ASSERT_EQ(whole.experts.gate_up.input_scale.shape(), Shape{2});
    EXPECT_EQ(whole.experts.gate_up.input_scale.as<float>()[0], 0.25F);
    EXPECT_EQ(whole.experts.gate_up.input_scale.as<float>()[1], 8);
  }
}

TEST(Load, ReportsProgress) {
  TinyCheckpoint c;
  const Checkpoint checkpoint = TinyCheckpoint::bf16(c).open();
  std::int64_t last = 0, total = 0;
  checkpoint.load(0, {.tp = {}, .ep = {}, .progress = [&](std::int64_t done, std::int64_t all) {
                        EXPECT_GE(done, last);
                        last = done;
                        total = all;
                      }});
  EXPECT_EQ(last, total);
  EXPECT_EQ(total, checkpoint.layer(0).expert_bytes + checkpoint.layer(0).other_bytes);
}

TEST(Load, FilesThatShrankAreAnErrorNotASignal) {
  TinyCheckpoint c;
  const Checkpoint checkpoint = TinyCheckpoint::bf16(c).open();
  std::filesystem::resize_file(c.directory / "model.safetensors", 4000);
  EXPECT_THAT(complaint([&] { checkpoint.load(0); }), HasSubstr("became shorter"));
}

}  // namespace
}  // namespace switchyard
