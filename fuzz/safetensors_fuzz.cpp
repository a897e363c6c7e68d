// The safetensors header: whatever the bytes, a Header whose tensors lie inside the file, or a
// sentence. The first two bytes choose the size of the data that the header may describe.
#include <cstdlib>

#include "fuzz/padded.h"
#include "switchyard/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::int64_t data_bytes = data[0] + 256 * data[1];
  const switchyard::fuzz::Padded input(data + 2, size - 2);
  try {
    const auto header = switchyard::checkpoint::parse_header(input.text(), data_bytes, "f");
    const auto begin = static_cast<std::int64_t>(input.text().size()) + 8;
    std::int64_t sum = 0;
    for (const auto& tensor : header.tensors) {
      if (tensor.begin < begin || tensor.bytes < 0) std::abort();
      if (tensor.begin + tensor.bytes > begin + data_bytes) std::abort();
      sum += tensor.bytes;
    }
    if (sum != data_bytes) std::abort();
  } catch (const switchyard::InvalidArgument&) {
  }
  return 0;
}
