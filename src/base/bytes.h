#pragma once

// Bounded little-endian cursors, used by every file format. A ByteReader never reads past its span:
// each read checks first and returns an Error that names the field and the offset. A ByteWriter appends
// to memory it owns. Neither is thread safe.

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/error.h"

namespace ds4 {

class ByteReader {
 public:
  // `subject` names the file or message in errors; it must outlive the reader.
  ByteReader(std::span<const std::byte> bytes, std::string_view subject) : bytes_(bytes), subject_(subject) {}

  size_t offset() const { return offset_; }
  size_t remaining() const { return bytes_.size() - offset_; }

  template <class T>
    requires std::is_arithmetic_v<T>
  Result<T> read(std::string_view field) {
    if (remaining() < sizeof(T)) return truncated(field, sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + offset_, sizeof(T));
    offset_ += sizeof(T);
    return value;
  }

  // A view of the next n_bytes; valid as long as the underlying bytes.
  Result<std::span<const std::byte>> read_span(uint64_t n_bytes, std::string_view field);
  Result<std::string_view> read_text(uint64_t n_bytes, std::string_view field);
  Result<void> skip(uint64_t n_bytes, std::string_view field);

 private:
  Error truncated(std::string_view field, uint64_t wanted_bytes) const;

  std::span<const std::byte> bytes_;
  std::string_view subject_;
  size_t offset_ = 0;
};

class ByteWriter {
 public:
  template <class T>
    requires std::is_arithmetic_v<T>
  void write(T value) {
    const auto* first = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), first, first + sizeof(T));
  }
  void write_bytes(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  void write_text(std::string_view text) { write_bytes(std::as_bytes(std::span(text.data(), text.size()))); }
  // Zero bytes until the size is a multiple of `alignment`.
  void pad_to(size_t alignment);

  size_t size() const { return bytes_.size(); }
  std::span<const std::byte> bytes() const { return bytes_; }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace ds4
