#include "session/hash.h"

#include <bit>
#include <new>

#include <fmt/format.h>
#define XXH_STATIC_LINKING_ONLY  // the state's layout: it lives on the stack
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>  // the best instruction set of the processor; the values do not depend on it
#endif

namespace ds4 {

static_assert(std::endian::native == std::endian::little, "keys hash little-endian bytes");

Hash128 hash_bytes(std::span<const std::byte> bytes, const Hash128& parent) {
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  const std::array<uint64_t, 2> chained = {parent.low, parent.high};
  XXH3_128bits_update(&state, chained.data(), sizeof(chained));
  XXH3_128bits_update(&state, bytes.data(), bytes.size());
  const XXH128_hash_t hash = XXH3_128bits_digest(&state);
  return {hash.low64, hash.high64};
}

Hash128 page_key(const Hash128& parent, std::span<const int32_t> tokens) {
  return hash_bytes(std::as_bytes(tokens), parent);
}

std::string to_text(const Hash128& hash) { return fmt::format("{:016x}{:016x}", hash.high, hash.low); }

uint64_t checksum_of(std::span<const std::byte> bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

StreamChecksum::StreamChecksum() {
  static_assert(sizeof(XXH3_state_t) <= kStateBytes && alignof(XXH3_state_t) <= 64);
  XXH3_64bits_reset(new (state_.data()) XXH3_state_t);
}

void StreamChecksum::add(std::span<const std::byte> bytes) {
  XXH3_64bits_update(std::launder(reinterpret_cast<XXH3_state_t*>(state_.data())), bytes.data(), bytes.size());
}

uint64_t StreamChecksum::value() const {
  return XXH3_64bits_digest(std::launder(reinterpret_cast<const XXH3_state_t*>(state_.data())));
}

}  // namespace ds4
