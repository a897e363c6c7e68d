#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "switchyard/moe.h"
#include "switchyard/tensor.h"
#include "switchyard/weights.h"

namespace switchyard {

/// Part `rank` of `ranks`. Tensor-parallel parts are whole scale groups: if I / ranks is not a
/// multiple of the group, the parts differ by one group and still sum to the layer.
struct Part {
  int rank = 0, ranks = 1;
  friend bool operator==(const Part&, const Part&) = default;
};

/// "1/8" -> {1, 8}; throws InvalidArgument unless 0 <= rank < ranks.
Part parse_part(std::string_view text);

/// Called with bytes done and bytes in all, from the calling thread.
using Progress = std::function<void(std::int64_t done, std::int64_t total)>;

/// One MoE layer of a checkpoint, from names, shapes and config alone: no weights are read.
struct CheckpointLayer {
  int layer = 0;
  std::string prefix;  ///< "model.layers.3.mlp."
  std::string scheme;  ///< "modelopt nvfp4", "gpt-oss mxfp4", "bf16", ...
  MoeConfig config;
  WeightFormat gate_up, down;     ///< formats of the routed experts
  std::int64_t expert_bytes = 0;  ///< of the routed experts' tensors on disk
  std::int64_t other_bytes = 0;   ///< router, shared expert, latent projections
};

struct LoadOptions {
  Part tp, ep;  ///< only the bytes of this part are read, and the input scales of all experts
  Progress progress;
};

/// A directory with config.json and *.safetensors (indexed or single), or one .safetensors file.
class Checkpoint {
 public:
  /// Reads the config, the index and the headers of the files that hold MoE tensors.
  /// Throws InvalidArgument for a missing or damaged file, naming it and what is wrong;
  /// Unsupported for a family or scheme we do not know, naming the keys that were looked for.
  static Checkpoint open(const std::filesystem::path& directory);

  const std::string& family() const noexcept;  ///< "mixtral", "deepseek_v3", ...
  const std::vector<CheckpointLayer>& layers() const noexcept;
  const CheckpointLayer& layer(int index) const;  ///< by model layer; throws, listing the layers

  /// The layer's mathematics for one part: I, experts and expert_map as this rank sees them.
  MoeConfig config(int layer, const LoadOptions& options = {}) const;
  /// Reads the weights; peak memory is the layer plus a few megabytes.
  MoeWeights load(int layer, const LoadOptions& options = {}) const;

 private:
  std::shared_ptr<const struct CheckpointState> state_;
};

/// Tensors by name, with the file's free-form metadata.
struct TensorFile {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// A whole .safetensors file; throws InvalidArgument if its header lies.
TensorFile read_tensors(const std::filesystem::path& file);
/// Writes aside, then renames: the file is complete or absent.
void write_tensors(const std::filesystem::path& file, const TensorFile& tensors);

/// Writes a copy of the checkpoint with its routed experts quantised to nvfp4, mxfp4, fp8_block,
/// fp8_channel, fp8_tensor, mxfp8, int4_gN or bf16, in the layout that other loaders read
/// (compressed-tensors; ModelOpt with `modelopt`; DeepSeek's for fp8_block).
/// `out` must not exist or be empty. Interrupted, it leaves only a directory named out +
/// ".partial".
struct QuantizeOptions {
  WeightFormat format;
  bool modelopt = false;
  Progress progress;
};
void quantize_checkpoint(const std::filesystem::path& directory, const std::filesystem::path& out,
                         const QuantizeOptions& options);

}  // namespace switchyard
