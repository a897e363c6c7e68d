#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/check.h"
#include "base/file.h"
#include "checkpoint/matrix_reader.h"
#include "checkpoint/other_tensors.h"
#include "checkpoint/quantized_form.h"
#include "checkpoint/state.h"
#include "checkpoint/tensor_file.h"
#include "formats/convert.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using namespace checkpoint;

constexpr std::string_view kNames[][3] = {{"gate_proj", "up_proj", "down_proj"},
                                          {"w1", "w3", "w2"}};

/// Names of gate, up and down: those of the source if it numbers its experts.
const std::string_view* names_for(const LayerTensors& layer) {
  return layer.find("w2.weight", true) || layer.find("w2.weight_packed", true) ||
                 layer.find("w2.qweight", true)
             ? kNames[1]
             : kNames[0];
}

/// One expert's matrix as f32 [1, out, in], AWQ's factor of the input multiplied in.
Tensor decode_expert(const ExpertMatrix& matrix) {
  Tensor values = dequantize(matrix, DType::f32);
  if (!matrix.input_factor) return values;
  const std::int64_t in = matrix.in();
  for (std::int64_t r = 0; r < matrix.out(); ++r)
    for (std::int64_t c = 0; c < in; ++c)
      values.as<float>()[r * in + c] *= matrix.input_factor.as<float>()[c];
  return values;
}

class Quantizer {
 public:
  Quantizer(const fs::path& source, const fs::path& out, const QuantizeOptions& options)
      : options_(options),
        form_(options.format, options.modelopt),
        files_(find_files(source)),
        state_(open_state(source)),
        out_(out),
        partial_(out.string() + ".partial") {}

  void run() {
    check_target();
    std::error_code error;
    fs::create_directories(partial_, error);
    if (error)
      throw DeviceError(fmt::format("[checkpoint.quantize] {}: cannot create the directory: {}.",
                                    partial_.string(), error.message()));
    std::vector<std::vector<OtherTensor>> others =
        other_tensors(state_->catalogue, state_->config.quant);
    std::erase_if(others, [](const auto& tensors) { return tensors.empty(); });
    shards_ = others.size() + state_->plans.size();
    for (const LayerPlan& plan : state_->plans)
      total_ += stored_bytes(plan.experts.gate_up) + stored_bytes(plan.experts.down);
    for (const std::vector<OtherTensor>& tensors : others) write_others(tensors);
    for (const LayerPlan& plan : state_->plans) write_layer(plan);
    write_index();
    write_configs();
    copy_files();
    fs::remove(out_);  // an empty directory, or nothing
    fs::rename(partial_, out_);
  }

 private:
  void check_target() const {
    require(!fs::exists(out_) || (fs::is_directory(out_) && fs::is_empty(out_)),
            "[checkpoint.quantize] {}: expected a directory that does not exist or is empty. "
            "Choose another.",
            out_.string());
    require(!fs::exists(partial_),
            "[checkpoint.quantize] {}: left by an interrupted run. Remove it.", partial_.string());
  }

  std::string next_shard() {
    return fmt::format("model-{:05}-of-{:05}.safetensors", ++written_, shards_);
  }

  void announce(const std::vector<TensorWriter::Entry>& entries, const std::string& shard) {
    for (const TensorWriter::Entry& entry : entries) {
      index_["weight_map"][entry.name] = shard;
      bytes_ += entry.bytes();
    }
  }

  void write_others(const std::vector<OtherTensor>& tensors) {
    const std::string shard = next_shard();
    std::vector<TensorWriter::Entry> entries;
    for (const OtherTensor& tensor : tensors) {
      entries.push_back({tensor.name, tensor.type, tensor.shape});
      constexpr std::string_view kWeight = ".weight";
      if (tensor.name.ends_with(kWeight) && tensor.shape.rank() == 2)
        ignore_.push_back(tensor.name.substr(0, tensor.name.size() - kWeight.size()));
    }
    announce(entries, shard);
    TensorWriter writer(partial_ / shard, entries, {{"format", "pt"}});
    for (const OtherTensor& tensor : tensors) copy_tensor(state_->catalogue, tensor, writer);
    writer.publish();
  }

  /// Base names and rows of the matrices that one expert is written as.
  struct Written {
    std::string_view name;
    bool down;
    std::int64_t row, out, in;
  };

  static std::vector<Written> matrices(const LayerPlan& plan) {
    const std::string_view* const names = names_for(*plan.tensors);
    const Projection &up = plan.experts.gate_up, &down = plan.experts.down;
    std::vector<Written> all;
    if (up.parts.size() == 2) all.push_back({names[0], false, 0, up.rows, up.in});
    all.push_back({names[1], false, up.out() - up.rows, up.rows, up.in});
    all.push_back({names[2], true, 0, down.rows, down.in});
    return all;
  }

  static const Leaf* bias_of(const LayerPlan& plan, bool down) {
    return (down ? plan.experts.down : plan.experts.gate_up).bias[0];
  }

  void write_layer(const LayerPlan& plan) {
    const std::string shard = next_shard();
    const std::vector<Written> written = matrices(plan);
    std::vector<TensorWriter::Entry> entries;
    for (std::int64_t e = 0; e < plan.config.experts; ++e)
      for (const Written& w : written) {
        const std::string base = fmt::format("{}experts.{}.{}", plan.tensors->prefix, e, w.name);
        for (const FormTensor& tensor : form_.tensors(w.out, w.in))
          entries.push_back({fmt::format("{}.{}", base, tensor.key), tensor.type, tensor.shape});
        if (const Leaf* const bias = bias_of(plan, w.down))
          entries.push_back({base + ".bias", bias->type, {w.out}});
      }
    announce(entries, shard);
    TensorWriter writer(partial_ / shard, entries, {{"format", "pt"}});
    for (std::int64_t e = 0; e < plan.config.experts; ++e) write_expert(plan, written, e, writer);
    writer.publish();
  }

  /// The stored matrix in the format asked for, if that loses nothing.
  ExpertMatrix without_loss(const ExpertMatrix& stored) const {
    const bool possible = stored.format == weight_format("mxfp4") &&
                          options_.format == weight_format("nvfp4") && !stored.input_factor;
    return possible ? nvfp4_without_loss(stored).value_or(ExpertMatrix{}) : ExpertMatrix{};
  }

  void write_expert(const LayerPlan& plan, const std::vector<Written>& written, std::int64_t e,
                    TensorWriter& writer) {
    Reads reads;
    ExpertMatrix stored[2];
    Slice up = whole(plan.experts.gate_up), down = whole(plan.experts.down);
    up.expert = down.expert = e;
    up.experts = down.experts = 1;
    read_matrix(reads, plan.experts.gate_up, up, stored[0]);
    read_matrix(reads, plan.experts.down, down, stored[1]);
    reads.run(state_->catalogue.directory, state_->catalogue.shards, {});
    ExpertMatrix whole[2];  // what need not, or must not, be quantised by parts
    Tensor values[2];
    for (const bool is_down : {false, true}) {
      whole[is_down] = without_loss(stored[is_down]);
      if (whole[is_down]) continue;
      values[is_down] = decode_expert(stored[is_down]);
      if (form_.joint()) whole[is_down] = quantize(values[is_down].view(), options_.format);
    }
    for (const Written& w : written) {
      const bool parts = !whole[w.down];
      ExpertMatrix part;
      if (parts)
        part =
            quantize({values[w.down].as<float>() + w.row * w.in, DType::f32, Shape{1, w.out, w.in}},
                     options_.format);
      for (const std::vector<std::byte>& bytes :
           parts ? form_.bytes(part, 0, w.out) : form_.bytes(whole[w.down], w.row, w.out))
        writer.write(bytes.data(), static_cast<std::int64_t>(bytes.size()));
      if (const Leaf* const bias = bias_of(plan, w.down)) {
        Tensor narrow(*dtype_of(bias->type), {w.out});
        formats::store_run<float>(narrow.dtype(), narrow.data(), 0, w.out,
                                  stored[w.down].bias.as<float>() + w.row);
        writer.write(narrow.data(), narrow.bytes());
      }
    }
    done_ += reads.bytes();
    if (options_.progress) options_.progress(std::min(done_, total_), total_);
  }

  void write_index() {
    index_["metadata"]["total_size"] = bytes_;
    publish_text(partial_ / "model.safetensors.index.json", index_.dump(2) + "\n");
  }

  void write_configs() const {
    std::vector<std::string> ignore = ignore_;
    for (const LayerTensors& layer : state_->catalogue.prediction)
      ignore.push_back(fmt::format("re:^{}.*", escaped(layer.prefix)));
    const std::string text = read_text(files_.directory / "config.json", std::int64_t{64} << 20);
    publish_text(partial_ / "config.json", with_quantisation(text, form_.config(ignore).dump(-1)));
    const nlohmann::ordered_json modelopt = form_.modelopt_file(ignore);
    if (!modelopt.is_null())
      publish_text(partial_ / "hf_quant_config.json", modelopt.dump(4) + "\n");
  }

  static std::string escaped(std::string_view name) {
    std::string text;
    for (const char c : name) text += c == '.' ? "\\." : std::string(1, c);
    return text;
  }

  /// Tokenizer, generation config, licence: everything that is neither weights nor rewritten.
  void copy_files() const {
    const std::set<std::string> skipped = {".safetensors", ".bin", ".pt", ".pth", ".gguf"};
    for (const auto& entry : fs::directory_iterator(files_.directory)) {
      const fs::path name = entry.path().filename();
      const bool rewritten = name == "config.json" || name == "hf_quant_config.json" ||
                             name.string().ends_with(".safetensors.index.json");
      if (entry.is_regular_file() && !rewritten && !skipped.contains(name.extension().string()))
        fs::copy_file(entry.path(), partial_ / name);
    }
  }

  const QuantizeOptions& options_;
  const QuantizedForm form_;
  const Files files_;
  const std::shared_ptr<const CheckpointState> state_;
  const fs::path out_, partial_;
  std::vector<std::string> ignore_;
  nlohmann::json index_;
  std::size_t shards_ = 0, written_ = 0;
  std::int64_t bytes_ = 0, done_ = 0, total_ = 0;
};

}  // namespace

void quantize_checkpoint(const fs::path& directory, const fs::path& out,
                         const QuantizeOptions& options) {
  Quantizer(directory, out, options).run();
}

}  // namespace switchyard
