#pragma once

// The metadata of a GGUF file: keys in file order, each with one typed value. Values stay in their encoded
// form, so that whatever was read is written back byte for byte; look-ups decode. Integer look-ups accept
// every integer width, float look-ups every number; a failed look-up says which key and why.
// A value type: copies are independent. Look-ups are const and thread safe.

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "gguf/format.h"

namespace ds4 {

struct MetadataValue {
  GgufType type = GgufType::kU32;
  GgufType element_type = GgufType::kU32;  // of an array
  uint64_t count = 1;                      // elements of an array
  // A number, the text of a string without its length, or an array's elements back to back as in the file.
  std::string bytes;

  // "43", "true", "\"deepseek4\"", "[0, 0, 4, ... (44 i32)]"; for people, with at most max_elements of an array.
  std::string to_text(size_t max_elements) const;
  // "u32", "array of string".
  std::string type_text() const;
};

struct MetadataEntry {
  std::string key;
  MetadataValue value;
};

class Metadata {
 public:
  bool contains(std::string_view key) const { return find(key) != nullptr; }
  const MetadataValue* find(std::string_view key) const;
  std::span<const MetadataEntry> entries() const { return entries_; }

  // Errors: kNotFound when the key is missing, kCorrupt when type or range do not fit.
  Result<int64_t> get_int(std::string_view key) const;
  Result<double> get_float(std::string_view key) const;
  Result<bool> get_bool(std::string_view key) const;
  // Views live as long as this object is not changed.
  Result<std::string_view> get_string(std::string_view key) const;
  Result<std::vector<int64_t>> get_int_array(std::string_view key) const;
  Result<std::vector<double>> get_float_array(std::string_view key) const;
  Result<std::vector<std::string_view>> get_string_array(std::string_view key) const;

  // Setters append a new key or replace the value of a known one in place.
  void set_value(std::string_view key, MetadataValue value);
  void set_u32(std::string_view key, uint32_t value);
  void set_i32(std::string_view key, int32_t value);
  void set_u64(std::string_view key, uint64_t value);
  void set_f32(std::string_view key, float value);
  void set_bool(std::string_view key, bool value);
  void set_string(std::string_view key, std::string_view value);
  void set_u32_array(std::string_view key, std::span<const uint32_t> values);
  void set_i32_array(std::string_view key, std::span<const int32_t> values);
  void set_f32_array(std::string_view key, std::span<const float> values);
  void set_string_array(std::string_view key, std::span<const std::string> values);

 private:
  Result<const MetadataValue*> require(std::string_view key) const;
  Result<const MetadataValue*> require_array(std::string_view key, std::string_view wanted) const;

  std::vector<MetadataEntry> entries_;
  std::map<std::string, size_t, std::less<>> index_;
};

// The tensor alignment that the metadata asks for: a power of two from 8 to 2^20, 32 when it says nothing.
Result<uint32_t> gguf_alignment(const Metadata& metadata);

}  // namespace ds4
