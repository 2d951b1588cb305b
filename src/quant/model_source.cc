#include "quant/model_source.h"

#include <algorithm>

#include "quant/checksum.h"

namespace ds4 {

uint64_t tensor_fingerprint(std::string_view name, std::string_view type, const Shape& shape,
                            std::span<const std::byte> bytes, uint64_t seed) {
  constexpr size_t kEndBytes = 4096;
  const size_t n = std::min(bytes.size(), kEndBytes);
  seed = checksum64(fmt::format("{} {} {}", name, type, shape.to_string()), seed);
  return checksum64(bytes.last(n), checksum64(bytes.first(n), seed));
}

}  // namespace ds4
