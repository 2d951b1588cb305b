#include "base/bytes.h"

#include <bit>

namespace ds4 {

static_assert(std::endian::native == std::endian::little, "file formats are little endian and read by memcpy");

Error ByteReader::truncated(std::string_view field, uint64_t wanted_bytes) const {
  return make_error(ErrorCode::kCorrupt, "{}: truncated at byte {}: {} needs {} bytes, {} left", subject_, offset_,
                    field, wanted_bytes, remaining());
}

Result<std::span<const std::byte>> ByteReader::read_span(uint64_t n_bytes, std::string_view field) {
  if (n_bytes > remaining()) return truncated(field, n_bytes);
  const auto span = bytes_.subspan(offset_, n_bytes);
  offset_ += n_bytes;
  return span;
}

Result<std::string_view> ByteReader::read_text(uint64_t n_bytes, std::string_view field) {
  const auto span = TRY(read_span(n_bytes, field));
  return std::string_view(reinterpret_cast<const char*>(span.data()), span.size());
}

Result<void> ByteReader::skip(uint64_t n_bytes, std::string_view field) {
  TRY(read_span(n_bytes, field));
  return {};
}

void ByteWriter::pad_to(size_t alignment) {
  CHECK(alignment > 0, "alignment 0");
  bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
}

}  // namespace ds4
