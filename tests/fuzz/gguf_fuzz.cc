// Any bytes give an error or a file whose every tensor and every metadata value can be used.

#include <cstdint>
#include <span>
#include <vector>

#include "gguf/dequantize.h"
#include "gguf/reader.h"

namespace {

void use_metadata(const ds4::Metadata& metadata) {
  for (const ds4::MetadataEntry& entry : metadata.entries()) {
    static_cast<void>(entry.value.to_text(16));
    static_cast<void>(metadata.get_int(entry.key));
    static_cast<void>(metadata.get_float(entry.key));
    static_cast<void>(metadata.get_bool(entry.key));
    static_cast<void>(metadata.get_string(entry.key));
    static_cast<void>(metadata.get_int_array(entry.key));
    static_cast<void>(metadata.get_float_array(entry.key));
    static_cast<void>(metadata.get_string_array(entry.key));
  }
}

void use_tensors(const ds4::GgufFile& gguf) {
  std::vector<float> row;
  for (const ds4::TensorInfo& tensor : gguf.tensors()) {
    if (gguf.find(tensor.name) != &tensor) __builtin_trap();
    if (!tensor.type) continue;
    const ds4::TensorView view = gguf.view(tensor);
    if (view.offset_bytes + view.size_bytes() > gguf.file_size_bytes()) __builtin_trap();
    if (!ds4::is_float_type(view.type)) continue;
    row.resize(static_cast<size_t>(view.shape.back()));
    ds4::dequantize_row(view.type, view.data<std::byte>(), row.data(), view.shape.back());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parsed = ds4::GgufFile::from_bytes(std::as_bytes(std::span(data, size)), "input");
  if (!parsed.ok()) return 0;
  use_metadata(parsed.value()->metadata());
  use_tensors(*parsed.value());
  return 0;
}
