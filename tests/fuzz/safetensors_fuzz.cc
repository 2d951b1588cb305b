#include <cstdint>
#include <string_view>

#include "quant/model_json.h"
#include "quant/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  uint64_t n_bytes = 0;
  if (const auto tensors = ds4::parse_safetensors(bytes, "fuzz"); tensors.ok()) {
    for (const ds4::SourceTensor& tensor : tensors.value()) {
      CHECK(static_cast<uint64_t>(tensor.shape.elements()) * source_type_bytes(tensor.type) == tensor.bytes.size(),
            "{} has {} bytes", tensor.shape.to_string(), tensor.bytes.size());
      for (const std::byte value : tensor.bytes) n_bytes += static_cast<uint8_t>(value);
    }
  }
  const bool any = ds4::parse_safetensors_index(text, "fuzz").ok() || ds4::parse_checkpoint_config(text, "fuzz").ok() ||
                   ds4::parse_synthetic_shape(text, "fuzz").ok();
  return n_bytes == UINT64_MAX && any ? -1 : 0;
}
