#pragma once

// A fast 64-bit checksum for our own files and for telling inputs apart: SplitMix64's finaliser over 8-byte words.
// Finds accidents, not attacks. Values are part of journals and of quantize.source.fingerprint, so they must not
// change. How the bytes are cut into calls of add() does not matter. A value type; one thread per object.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace ds4 {

class Checksum64 {
 public:
  explicit Checksum64(uint64_t seed = 0) : hash_(seed) {}

  void add(std::span<const std::byte> bytes);
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
  uint64_t value() const;

 private:
  uint64_t hash_;
  uint64_t n_bytes_ = 0;
  uint64_t pending_ = 0;  // the last n_bytes_ % 8 bytes, lowest first
};

uint64_t checksum64(std::span<const std::byte> bytes, uint64_t seed = 0);
uint64_t checksum64(std::string_view text, uint64_t seed = 0);

}  // namespace ds4
