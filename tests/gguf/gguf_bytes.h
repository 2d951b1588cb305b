#pragma once

// Builds GGUF files byte by byte for tests, right or wrong: independent of the writer under test.

#include <initializer_list>
#include <string_view>

#include "base/bytes.h"
#include "gguf/format.h"

namespace ds4 {

class GgufBytes {
 public:
  GgufBytes(uint64_t n_tensors, uint64_t n_pairs, uint32_t version = kGgufVersion) {
    out_.write(kGgufMagic);
    out_.write(version);
    out_.write(n_tensors);
    out_.write(n_pairs);
  }
  GgufBytes& string(std::string_view text) {
    out_.write(uint64_t{text.size()});
    out_.write_text(text);
    return *this;
  }
  template <class T>
  GgufBytes& number(T value) {
    out_.write(value);
    return *this;
  }
  GgufBytes& pair(std::string_view key, GgufType type) { return string(key).number(static_cast<uint32_t>(type)); }
  GgufBytes& u32_pair(std::string_view key, uint32_t value) { return pair(key, GgufType::kU32).number(value); }
  // Extents in the file's order, innermost first.
  GgufBytes& tensor(std::string_view name, std::initializer_list<uint64_t> extents, uint32_t ggml_type,
                    uint64_t offset) {
    string(name).number(static_cast<uint32_t>(extents.size()));
    for (const uint64_t extent : extents) number(extent);
    return number(ggml_type).number(offset);
  }
  // Pads to the alignment and appends n_bytes of data.
  GgufBytes& data(size_t n_bytes, size_t alignment = kGgufDefaultAlignment) {
    out_.pad_to(alignment);
    for (size_t i = 0; i < n_bytes; ++i) out_.write(static_cast<uint8_t>(i));
    return *this;
  }
  std::span<const std::byte> bytes() const { return out_.bytes(); }

 private:
  ByteWriter out_;
};

}  // namespace ds4
