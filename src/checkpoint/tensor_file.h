#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "checkpoint/stored_type.h"
#include "switchyard/tensor.h"

namespace switchyard::checkpoint {

/// Writes a .safetensors file whose tensors arrive one by one, in the order they were announced.
class TensorWriter {
 public:
  struct Entry {
    std::string name;
    StoredType type;
    Shape shape;
    std::int64_t bytes() const noexcept { return (shape.elements() * bits(type) + 7) / 8; }
  };

  /// Writes the header. Throws InvalidArgument for a name that appears twice.
  TensorWriter(const std::filesystem::path& file, const std::vector<Entry>& entries,
               const std::map<std::string, std::string>& metadata);
  /// The next bytes of the tensors, which follow each other without gaps.
  void write(const void* data, std::int64_t bytes);
  /// Throws std::logic_error unless every announced byte was written.
  void publish();

 private:
  AtomicFile file_;
  std::int64_t left_ = 0;
};

}  // namespace switchyard::checkpoint
