#pragma once

#include <fmt/format.h>

#include <cstring>
#include <string>

#include "switchyard/checkpoint.h"
#include "tests/checkpoint/files.h"

namespace switchyard::testing {

inline constexpr std::string_view kTinyConfig =
    R"({"model_type": "qwen3_moe", "hidden_size": 32, "moe_intermediate_size": 16,
        "num_experts": 2, "num_experts_per_tok": 1, "norm_topk_prob": true,
        "num_hidden_layers": 1})";

/// A checkpoint of one layer, 2 experts, H = 32, I = 16, to be spoiled by the tests.
struct TinyCheckpoint {
  TemporaryDirectory directory;
  std::string config{kTinyConfig};
  TensorFile file;

  static std::string name(int expert, std::string_view rest) {
    return fmt::format("model.layers.0.mlp.experts.{}.{}", expert, rest);
  }

  void put(const std::string& tensor, DType dtype, const Shape& shape, int byte = 0) {
    Tensor value(dtype, shape);
    std::memset(value.data(), byte, static_cast<std::size_t>(value.bytes()));
    file.tensors.insert_or_assign(tensor, std::move(value));
  }

  /// Every projection of both experts: KEY of the given type, `rows` x `cols` per [out, in].
  void put_all(std::string_view key, DType dtype, double rows, double cols, int byte = 0) {
    for (int e = 0; e < 2; ++e)
      for (const std::string_view base : {"gate_proj", "up_proj", "down_proj"}) {
        const double out = base == "down_proj" ? 32 : 16, in = base == "down_proj" ? 16 : 32;
        put(name(e, fmt::format("{}.{}", base, key)), dtype,
            {static_cast<std::int64_t>(out * rows), static_cast<std::int64_t>(in * cols)}, byte);
      }
  }

  void put_scalars(std::string_view key, float value) {
    for (int e = 0; e < 2; ++e)
      for (const std::string_view base : {"gate_proj", "up_proj", "down_proj"}) {
        Tensor scalar(DType::f32, {});
        *scalar.as<float>() = value;
        file.tensors.insert_or_assign(name(e, fmt::format("{}.{}", base, key)), std::move(scalar));
      }
  }

  TinyCheckpoint() { put("model.layers.0.mlp.gate.weight", DType::bf16, {2, 32}); }

  static TinyCheckpoint& bf16(TinyCheckpoint& c) {
    c.put_all("weight", DType::bf16, 1, 1);
    return c;
  }
  static TinyCheckpoint& nvfp4(TinyCheckpoint& c) {
    c.put_all("weight", DType::u8, 1, 0.5, 0x22);
    c.put_all("weight_scale", DType::f8_e4m3, 1, 1.0 / 16, 0x38);
    c.put_scalars("weight_scale_2", 0.5F);
    return c;
  }

  void write() const {
    write_file(directory / "config.json", config);
    write_tensors(directory / "model.safetensors", file);
  }
  Checkpoint open() const {
    write();
    return Checkpoint::open(directory.path());
  }
  std::string complaint_of_open() const {
    return complaint([&] { open(); });
  }
};

}  // namespace switchyard::testing
