// config.json and hf_quant_config.json (behind the first zero byte), with what is derived from
// them: a configuration, or a sentence.
#include "checkpoint/families.h"
#include "checkpoint/model_config.h"
#include "fuzz/padded.h"
#include "switchyard/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace switchyard::checkpoint;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t zero = std::min(input.find('\0'), size);
  try {
    const ModelConfig config = parse_model_config(
        input.substr(0, zero), zero < size ? input.substr(zero + 1) : std::string_view());
    config.quant.ignores("model.layers.3.mlp.experts.7.gate_proj");
    const LayerTensors layer;
    base_config(find_family(config, layer), config);
  } catch (const switchyard::InvalidArgument&) {
  } catch (const switchyard::Unsupported&) {
  }
  return 0;
}
