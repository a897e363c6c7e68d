// The index, and the names in it: plain file names, or a sentence.
#include <cstdlib>

#include "checkpoint/catalogue.h"
#include "checkpoint/index.h"
#include "fuzz/padded.h"
#include "switchyard/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const switchyard::fuzz::Padded input(data, size);
  try {
    const auto index = switchyard::checkpoint::parse_index(input.text(), "f");
    for (const auto& shard : index.shards)
      if (shard.empty() || shard.find('/') != std::string::npos) std::abort();
    for (const auto& entry : index.entries) {
      if (entry.shard < 0 || static_cast<std::size_t>(entry.shard) >= index.shards.size())
        std::abort();
      const auto name = switchyard::checkpoint::parse_moe_name(entry.tensor);
      if (!name) continue;
      if (name->layer < 0 || name->prefix.size() + name->rest.size() != entry.tensor.size())
        std::abort();
      if (switchyard::checkpoint::parse_leaf_name(name->rest).expert < -1) std::abort();
    }
  } catch (const switchyard::InvalidArgument&) {
  }
  return 0;
}
