// quantize_checkpoint: what it writes opens again and holds what quantize() makes of the source.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/checkpoint/files.h"
#include "tests/checkpoint/fixture_layer.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using testing::complaint;
using testing::Row;

fs::path fixture(std::string_view name) {
  return fs::path(SWITCHYARD_SOURCE_DIR) / "tests/fixtures" / name;
}

double distance(const Row& a, const Row& b) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    error += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(error / size);
}

struct Case {
  std::string_view format;
  bool modelopt;
  std::string_view scheme;
  double rounding;  // relative error that the format may add
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.format << (c.modelopt ? " modelopt" : "");
}

class Quantize : public ::testing::TestWithParam<Case> {};

TEST_P(Quantize, OpensAndHoldsTheQuantisedWeights) {
  const testing::TemporaryDirectory directory;
  const fs::path source = fixture("qwen3_moe_ct_mxfp4"), out = directory / "out";
  const WeightFormat format = weight_format(GetParam().format);
  std::int64_t last = 0, total = 0;
  const Progress progress = [&](std::int64_t done, std::int64_t all) {
    EXPECT_GE(done, last);
    last = done;
    total = all;
  };
  quantize_checkpoint(source, out, {format, GetParam().modelopt, progress});
  EXPECT_EQ(last, total);
  EXPECT_FALSE(fs::exists(out.string() + ".partial"));
  const Checkpoint before = Checkpoint::open(source), after = Checkpoint::open(out);
  EXPECT_EQ(after.layers().back().scheme, GetParam().scheme);
  EXPECT_EQ(after.layers().size(), before.layers().size());
  MoeConfig config = after.layer(0).config;
  config.act = before.layer(0).config.act;
  EXPECT_EQ(config, before.layer(0).config);
  const MoeWeights old_weights = before.load(0), new_weights = after.load(0);
  const auto compare = [&](const ExpertMatrix& a, const ExpertMatrix& b, int parts) {
    const Row want = testing::numbers(dequantize(a, DType::f64));
    const Row got = testing::numbers(dequantize(b, DType::f64));
    EXPECT_LE(distance(got, want), GetParam().rounding);
    if (GetParam().rounding == 0) return;
    // Gate and up are quantised apart, except where they share a scale.
    const Tensor f32 = dequantize(a, DType::f32);
    const bool joint = format.global_scale || GetParam().format == "fp8_tensor";
    const std::int64_t pieces = a.experts() * (joint ? 1 : parts);
    Tensor pieced(DType::f32, {pieces, a.experts() * a.out() / pieces, a.in()});
    std::memcpy(pieced.data(), f32.data(), static_cast<std::size_t>(f32.bytes()));
    const Row exact = testing::numbers(dequantize(quantize(pieced.view(), format), DType::f64));
    EXPECT_LT(distance(got, exact), 1e-7);
  };
  compare(old_weights.experts.gate_up, new_weights.experts.gate_up, 2);
  compare(old_weights.experts.down, new_weights.experts.down, 1);
  EXPECT_EQ(testing::numbers(old_weights.router), testing::numbers(new_weights.router));
}

INSTANTIATE_TEST_SUITE_P(
    Formats, Quantize,
    ::testing::Values(Case{"nvfp4", false, "compressed-tensors nvfp4", 0},  // from mxfp4
                      Case{"nvfp4", true, "modelopt nvfp4", 0},
                      Case{"mxfp4", false, "compressed-tensors mxfp4", 0.2},
                      Case{"mxfp8", false, "mxfp8", 0.05}, Case{"mxfp8", true, "mxfp8", 0.05},
                      Case{"fp8_channel", false, "fp8 channel", 0.05},
                      Case{"fp8_channel", true, "fp8 channel", 0.05},
                      Case{"fp8_tensor", false, "fp8 tensor", 0.05},
                      Case{"fp8_block", false, "fp8 block", 0.05},
                      Case{"int4_g32", false, "compressed-tensors int4", 0.2},
                      Case{"int4_g16_zp", false, "compressed-tensors int4", 0.2},
                      Case{"bf16", false, "bf16", 0.01}),
    [](const auto& test) {
      return std::string(test.param.format) + (test.param.modelopt ? "_modelopt" : "");
    });

TEST(QuantizeCheckpoint, EveryKindOfSource) {
  for (const std::string_view name :
       {"gpt_oss_mxfp4", "llama4_bf16", "deepseek_v4_mxfp4", "deepseek_v3_bf16",
        "nemotron_super_bf16", "mixtral_bf16", "qwen2_moe_awq", "deepseek_v3_ct_fp8_block"}) {
    SCOPED_TRACE(name);
    const testing::TemporaryDirectory directory;
    const fs::path out = directory / "out";
    quantize_checkpoint(fixture(name), out, {weight_format("bf16"), false, {}});
    const Checkpoint before = Checkpoint::open(fixture(name)), after = Checkpoint::open(out);
    ASSERT_EQ(after.layers().size(), before.layers().size());
    for (const CheckpointLayer& layer : after.layers()) {
      EXPECT_EQ(layer.scheme, "bf16");
      const MoeWeights want = before.load(layer.layer), got = after.load(layer.layer);
      EXPECT_LT(distance(testing::numbers(dequantize(got.experts.down, DType::f64)),
                         testing::numbers(dequantize(want.experts.down, DType::f64))),
                0.01);
      EXPECT_LT(distance(testing::numbers(dequantize(got.experts.gate_up, DType::f64)),
                         testing::numbers(dequantize(want.experts.gate_up, DType::f64))),
                0.01);
      ASSERT_EQ(static_cast<bool>(got.experts.down.bias),
                static_cast<bool>(want.experts.down.bias));
      if (want.experts.down.bias) {
        EXPECT_EQ(testing::numbers(got.experts.down.bias),
                  testing::numbers(want.experts.down.bias));
        EXPECT_EQ(testing::numbers(got.experts.gate_up.bias),
                  testing::numbers(want.experts.gate_up.bias));
      }
      if (want.shared.down) {
        EXPECT_LT(distance(testing::numbers(dequantize(got.shared.down, DType::f64)),
                           testing::numbers(dequantize(want.shared.down, DType::f64))),
                  0.01);
      }
    }
  }
}

TEST(QuantizeCheckpoint, AnnouncesWhatItWrote) {
  const testing::TemporaryDirectory directory;
  const fs::path out = directory / "out";
  fs::create_directory(out);  // empty: allowed
  quantize_checkpoint(fixture("nemotron_nano_bf16"), out,
                      {weight_format("fp8_channel"), false, {}});
  std::ifstream file(out / "config.json");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  EXPECT_THAT(text, ::testing::HasSubstr("Infinity")) << "time_step_limit must stay";
  EXPECT_THAT(text, ::testing::HasSubstr("\"quant_method\": \"compressed-tensors\""));
  EXPECT_THAT(text, ::testing::HasSubstr("\"format\": \"float-quantized\""));
  EXPECT_THAT(text, ::testing::HasSubstr("backbone.layers.1.mixer.gate"));
}

TEST(QuantizeCheckpoint, RefusesATargetThatIsNotEmpty) {
  const testing::TemporaryDirectory directory;
  const auto run = [&](const WeightFormat& format) {
    return complaint([&] {
      quantize_checkpoint(fixture("mixtral_bf16"), directory.path(), {format, false, {}});
    });
  };
  testing::write_file(directory / "precious", "x");
  EXPECT_THAT(run(weight_format("nvfp4")), ::testing::HasSubstr("is empty"));
  EXPECT_THAT(run(weight_format("fp8_block32")), ::testing::HasSubstr("expected one of"));
  EXPECT_TRUE(fs::exists(directory / "precious"));
}

}  // namespace
}  // namespace switchyard
