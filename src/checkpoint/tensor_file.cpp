#include "checkpoint/tensor_file.h"

#include <nlohmann/json.hpp>
#include <set>

#include "base/check.h"
#include "base/math.h"
#include "checkpoint/safetensors.h"
#include "switchyard/checkpoint.h"

namespace switchyard {
namespace checkpoint {

TensorWriter::TensorWriter(const std::filesystem::path& file, const std::vector<Entry>& entries,
                           const std::map<std::string, std::string>& metadata)
    : file_(file) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::set<std::string_view> names;
  for (const Entry& entry : entries) {
    require(entry.name != "__metadata__" && names.insert(entry.name).second,
            "[checkpoint] {}: expected every tensor once, got '{}' again. Rename one.",
            file.filename().string(), entry.name);
    header[entry.name] = {
        {"dtype", name(entry.type)},
        {"shape", std::vector<std::int64_t>(entry.shape.begin(), entry.shape.end())},
        {"data_offsets", {left_, left_ + entry.bytes()}}};
    left_ += entry.bytes();
  }
  std::string text = header.dump();
  text.resize(round_up<std::size_t>(text.size(), 8), ' ');  // so that the data is aligned
  const std::uint64_t length = text.size();
  file_.write(&length, sizeof length);
  file_.write(text);
}

void TensorWriter::write(const void* data, std::int64_t bytes) {
  SWITCHYARD_ASSERT(bytes <= left_);
  file_.write(data, static_cast<std::size_t>(bytes));
  left_ -= bytes;
}

void TensorWriter::publish() {
  SWITCHYARD_ASSERT(left_ == 0);
  file_.publish();
}

}  // namespace checkpoint

TensorFile read_tensors(const std::filesystem::path& file) {
  const checkpoint::Header header = checkpoint::read_header(file);
  TensorFile result{.tensors = {}, .metadata = header.metadata};
  for (const checkpoint::StoredTensor& stored : header.tensors) {
    const std::optional<DType> dtype = checkpoint::dtype_of(stored.type);
    if (!dtype)
      throw Unsupported(fmt::format(
          "[checkpoint] {}: tensor '{}' is {}, which has no element type here. Leave it out.",
          file.filename().string(), stored.name, name(stored.type)));
    Tensor tensor(*dtype, stored.shape);
    read_bytes(file, stored.begin,
               {static_cast<std::byte*>(tensor.data()), static_cast<std::size_t>(stored.bytes)});
    result.tensors.emplace(stored.name, std::move(tensor));
  }
  return result;
}

void write_tensors(const std::filesystem::path& file, const TensorFile& tensors) {
  std::vector<checkpoint::TensorWriter::Entry> entries;
  for (const auto& [name, tensor] : tensors.tensors) {
    require(static_cast<bool>(tensor), "[checkpoint] {}: tensor '{}' is absent. Leave it out.",
            file.filename().string(), name);
    require(tensor.dtype() != DType::u4,
            "[checkpoint] {}: tensor '{}': u4 has no name in the format. Store its bytes as u8.",
            file.filename().string(), name);
    entries.push_back({name, checkpoint::stored_type_of(tensor.dtype()), tensor.shape()});
  }
  checkpoint::TensorWriter writer(file, entries, tensors.metadata);
  for (const auto& [name, tensor] : tensors.tensors) writer.write(tensor.data(), tensor.bytes());
  writer.publish();
}

}  // namespace switchyard
