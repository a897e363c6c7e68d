// Damaged and foreign checkpoints: each is refused with a sentence that names what is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/index.h"
#include "checkpoint/model_config.h"
#include "checkpoint/safetensors.h"
#include "tests/checkpoint/tiny_checkpoint.h"

namespace switchyard {
namespace {

using ::testing::AllOf;
using testing::complaint;
using ::testing::HasSubstr;
using testing::TinyCheckpoint;

TEST(BadCheckpoint, GoodOnesOpen) {
  TinyCheckpoint a, b;
  EXPECT_EQ(TinyCheckpoint::bf16(a).open().layer(0).scheme, "bf16");
  const Checkpoint nvfp4 = TinyCheckpoint::nvfp4(b).open();
  const MoeWeights weights = nvfp4.load(0);
  const Tensor values = dequantize(weights.experts.down, DType::f32);
  EXPECT_EQ(values.as<float>()[0], 0.5F);  // code 2 is 1, block scale 1, global scale 0.5
  EXPECT_THAT(complaint([&] { nvfp4.layer(3); }), HasSubstr("expected one of 0"));
}

TEST(BadCheckpoint, Paths) {
  TinyCheckpoint c;
  EXPECT_THAT(complaint([&] { Checkpoint::open(c.directory / "none"); }), HasSubstr("no such"));
  EXPECT_THAT(complaint([&] { Checkpoint::open(c.directory.path()); }),
              HasSubstr("expected *.safetensors files, got none"));
  testing::write_file(c.directory / "a.bin", "x");
  EXPECT_THAT(complaint([&] { Checkpoint::open(c.directory / "a.bin"); }),
              HasSubstr("a directory or a .safetensors file"));
  TinyCheckpoint::bf16(c).write();
  EXPECT_EQ(Checkpoint::open(c.directory / "model.safetensors").layers().size(), 1U);
  std::filesystem::remove(c.directory / "config.json");
  EXPECT_THAT(complaint([&] { Checkpoint::open(c.directory.path()); }),
              HasSubstr("expected config.json beside the weights"));
}

TEST(BadCheckpoint, MissingTensorsAreNamed) {
  TinyCheckpoint c;
  TinyCheckpoint::nvfp4(c);
  const std::string hole = TinyCheckpoint::name(0, "up_proj.weight_scale");
  for (const std::string_view key :
       {"up_proj.weight_scale", "up_proj.weight_scale_2", "down_proj.weight_scale"}) {
    TinyCheckpoint spoiled;
    TinyCheckpoint::nvfp4(spoiled);
    for (int e = 0; e < 2; ++e) spoiled.file.tensors.erase(TinyCheckpoint::name(e, key));
    EXPECT_THAT(spoiled.complaint_of_open(),
                AllOf(HasSubstr(TinyCheckpoint::name(0, key)), HasSubstr("got no such tensor")));
  }
  c.file.tensors.erase(TinyCheckpoint::name(1, "up_proj.weight"));
  EXPECT_THAT(c.complaint_of_open(), HasSubstr(TinyCheckpoint::name(1, "up_proj.weight")));
  TinyCheckpoint no_router;
  TinyCheckpoint::bf16(no_router).file.tensors.erase("model.layers.0.mlp.gate.weight");
  EXPECT_THAT(no_router.complaint_of_open(), HasSubstr("model.layers.0.mlp.gate.weight"));
}

TEST(BadCheckpoint, WrongTypesAndShapes) {
  const auto spoil = [](std::string_view key, DType dtype, const Shape& shape) {
    TinyCheckpoint c;
    TinyCheckpoint::nvfp4(c);
    for (int e = 0; e < 2; ++e) c.put(TinyCheckpoint::name(e, key), dtype, shape);
    return c.complaint_of_open();
  };
  EXPECT_THAT(spoil("gate_proj.weight_scale", DType::f8_e5m2, {16, 2}),
              AllOf(HasSubstr("gate_proj.weight_scale"), HasSubstr("got type F8_E5M2")));
  EXPECT_THAT(spoil("gate_proj.weight_scale", DType::f8_e4m3, {16, 1}),
              HasSubstr("expected scales for 16 rows and 2 groups of 16, got F8_E4M3 [16, 1]"));
  EXPECT_THAT(spoil("gate_proj.weight_scale_2", DType::f32, {2}), HasSubstr("expected one value"));
  EXPECT_THAT(spoil("up_proj.weight", DType::u8, {16, 12}), HasSubstr("expected out 16 and in 32"));
  EXPECT_THAT(spoil("down_proj.weight", DType::u8, {32, 6}), HasSubstr("down_proj.weight"));
  TinyCheckpoint one;
  TinyCheckpoint::bf16(one).put(TinyCheckpoint::name(1, "up_proj.weight"), DType::bf16, {16, 16});
  EXPECT_THAT(one.complaint_of_open(),
              AllOf(HasSubstr("experts.1.up_proj.weight"), HasSubstr("as the other experts have")));
}

TEST(BadCheckpoint, GateAndUpThatReadDifferentInputs) {
  const std::filesystem::path fixture =
      std::filesystem::path(SWITCHYARD_SOURCE_DIR) / "tests/fixtures/qwen3_moe_modelopt_w4a16_awq";
  TinyCheckpoint c;
  std::filesystem::copy(fixture, c.directory.path(), std::filesystem::copy_options::recursive);
  c.file = read_tensors(c.directory / "model.safetensors");
  Tensor& factor = c.file.tensors.at(TinyCheckpoint::name(1, "up_proj.pre_quant_scale"));
  factor.as<std::uint16_t>()[3] ^= 1;
  write_tensors(c.directory / "model.safetensors", c.file);
  EXPECT_THAT(
      complaint([&] { Checkpoint::open(c.directory.path()).load(0); }),
      AllOf(HasSubstr("experts.1.up_proj.pre_quant_scale"), HasSubstr("quantise them together")));
}

TEST(BadCheckpoint, WidthThatIsNoMultipleOfTheBlock) {
  TinyCheckpoint c;
  TinyCheckpoint::nvfp4(c);
  c.put("model.layers.0.mlp.gate.weight", DType::bf16, {2, 24});
  c.config.replace(c.config.find("\"hidden_size\": 32"), 17, "\"hidden_size\": 24");
  for (int e = 0; e < 2; ++e)
    for (const std::string_view base : {"gate_proj", "up_proj"}) {
      c.put(TinyCheckpoint::name(e, fmt::format("{}.weight", base)), DType::u8, {16, 12});
      c.put(TinyCheckpoint::name(e, fmt::format("{}.weight_scale", base)), DType::f8_e4m3, {16, 1});
    }
  EXPECT_THAT(c.complaint_of_open(), HasSubstr("whole groups of 16, got 24 columns"));
}

TEST(BadCheckpoint, UnknownSchemesListWhatWasLookedFor) {
  TinyCheckpoint c;
  c.put_all("weight", DType::i32, 1, 1);
  EXPECT_THAT(c.complaint_of_open(),
              AllOf(HasSubstr("no known quantisation scheme: looked for weight, "),
                    HasSubstr("weight_packed+weight_scale"), HasSubstr("qweight+scales"),
                    HasSubstr("gate_proj.weight (I32)")));
  TinyCheckpoint d;
  d.put_all("absurd", DType::bf16, 1, 1);
  EXPECT_THAT(d.complaint_of_open(), HasSubstr("no known names: looked for"));
}

TEST(BadCheckpoint, ConfigsThatDoNotFit) {
  const auto with = [](std::string_view from, std::string_view to) {
    TinyCheckpoint c;
    TinyCheckpoint::bf16(c);
    c.config.replace(c.config.find(from), from.size(), to);
    return c.complaint_of_open();
  };
  EXPECT_THAT(with("qwen3_moe", "qwen9"), HasSubstr("model_type: expected one of mixtral"));
  EXPECT_THAT(with("\"hidden_size\": 32", "\"hidden_size\": 64"), HasSubstr("[experts, 64]"));
  EXPECT_THAT(with("\"num_experts\": 2", "\"num_experts\": 4"), HasSubstr("expected 4 experts"));
  EXPECT_THAT(with("\"num_experts_per_tok\": 1", "\"num_experts_per_tok\": 3"),
              HasSubstr("num_experts_per_tok: expected at most 2 experts, got 3"));
  EXPECT_THAT(with("\"num_experts_per_tok\": 1", "\"num_experts_per_tok\": \"1\""),
              HasSubstr("num_experts_per_tok: expected a whole number, got \"1\""));
  EXPECT_THAT(with("\"hidden_size\": 32", "\"hidden_size\": 1e300"), HasSubstr("whole number"));
  EXPECT_THAT(with("{", "["), HasSubstr("config.json: expected a JSON object"));
  EXPECT_THAT(with("{", "{\"hidden_act\": \"tanh\","), HasSubstr("hidden_act 'tanh'"));
  EXPECT_THAT(with("\"num_hidden_layers\": 1", "\"num_hidden_layers\": 0"), HasSubstr(""));
}

TEST(BadCheckpoint, IndexAndShards) {
  TinyCheckpoint c;
  TinyCheckpoint::bf16(c).write();
  const auto index = [&](std::string_view json) {
    testing::write_file(c.directory / "model.safetensors.index.json", json);
    return complaint([&] { Checkpoint::open(c.directory.path()); });
  };
  const std::string tensor = "\"" + TinyCheckpoint::name(0, "gate_proj.weight") + "\"";
  EXPECT_THAT(index("{"), HasSubstr("in JSON"));
  EXPECT_THAT(index("{}"), HasSubstr("expected weight_map"));
  EXPECT_THAT(index("{\"weight_map\": {" + tensor + ": \"../x.safetensors\"}}"),
              HasSubstr("expected plain file names"));
  EXPECT_THAT(index("{\"weight_map\": {" + tensor + ": \"lost.safetensors\"}}"),
              HasSubstr("lost.safetensors: expected the shard that the index names"));
  const std::string ghost = "\"" + TinyCheckpoint::name(7, "gate_proj.weight") + "\"";
  EXPECT_THAT(index("{\"weight_map\": {" + ghost + ": \"model.safetensors\"}}"),
              AllOf(HasSubstr("model.safetensors: expected tensor"), HasSubstr("experts.7.")));
  // A missing shard without experts does no harm.
  std::string map;
  for (const auto& [name, value] : c.file.tensors)
    map += fmt::format("\"{}\": \"model.safetensors\",", name);
  EXPECT_EQ(index("{\"weight_map\": {" + map + "\"model.norm.weight\": \"lost.safetensors\"}}"),
            "");
}

TEST(BadCheckpoint, Parts) {
  EXPECT_EQ(parse_part("1/8"), (Part{1, 8}));
  for (const std::string_view text : {"", "1", "8/8", "-1/2", "1/2x", "a/b", "1/"})
    EXPECT_THROW(parse_part(text), InvalidArgument) << text;
  TinyCheckpoint c;
  const Checkpoint checkpoint = TinyCheckpoint::bf16(c).open();
  EXPECT_THAT(complaint([&] {
                checkpoint.load(0, {.tp = {0, 4}, .ep = {}, .progress = {}});
              }),
              HasSubstr("tp: expected at most 2 parts"));
  EXPECT_THAT(complaint([&] {
                checkpoint.load(0, {.tp = {}, .ep = {0, 3}, .progress = {}});
              }),
              HasSubstr("divides 2 experts, got 3"));
}

TEST(IgnoreList, PlainWildcardAndExpression) {
  checkpoint::QuantConfig quant;
  quant.ignore = {"lm_head", "model.layers.0.self_attn*", "re:.*\\.mlp\\.gate$", "re:("};
  EXPECT_TRUE(quant.ignores("lm_head"));
  EXPECT_FALSE(quant.ignores("lm_head.weight"));
  EXPECT_TRUE(quant.ignores("model.layers.0.self_attn.q_proj"));
  EXPECT_TRUE(quant.ignores("model.layers.7.mlp.gate"));
  EXPECT_FALSE(quant.ignores("model.layers.7.mlp.gate_proj"));
}

}  // namespace
}  // namespace switchyard
