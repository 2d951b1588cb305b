#pragma once

// Content addresses and checksums: XXH3. A key names what was hashed, and the same content has the same key on every
// machine. XXH3 finds accidents, not attacks: who restores state under a key compares the tokens too.
// Values are part of files and must not change.

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace ds4 {

struct Hash128 {
  uint64_t low = 0;
  uint64_t high = 0;

  bool operator==(const Hash128&) const = default;
  auto operator<=>(const Hash128&) const = default;
};

// XXH3-128 of the parent's 16 bytes and then `bytes`: keys of a chain differ when anything before them differs.
Hash128 hash_bytes(std::span<const std::byte> bytes, const Hash128& parent = {});
// Key of a full page: of the page before it ({} for the first) and of its own tokens.
Hash128 page_key(const Hash128& parent, std::span<const int32_t> tokens);
// 32 hexadecimal digits.
std::string to_text(const Hash128& hash);

// XXH3-64. Checksums in headers are seeded with the place they belong to.
uint64_t checksum_of(std::span<const std::byte> bytes, uint64_t seed = 0);

// The same over bytes that come in pieces: equals checksum_of() with seed 0. One thread per object.
class StreamChecksum {
 public:
  StreamChecksum();
  StreamChecksum(const StreamChecksum&) = delete;
  StreamChecksum& operator=(const StreamChecksum&) = delete;
  void add(std::span<const std::byte> bytes);
  uint64_t value() const;

 private:
  static constexpr size_t kStateBytes = 640;
  alignas(64) std::array<std::byte, kStateBytes> state_;  // XXH3's own
};

}  // namespace ds4

template <>
struct std::hash<ds4::Hash128> {
  size_t operator()(const ds4::Hash128& key) const noexcept { return static_cast<size_t>(key.low ^ key.high); }
};
