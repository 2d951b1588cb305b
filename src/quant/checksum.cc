#include "quant/checksum.h"

#include <cstring>

#include "base/rng.h"

namespace ds4 {

namespace {

constexpr size_t kWordBytes = sizeof(uint64_t);

}  // namespace

void Checksum64::add(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t filled = n_bytes_ % kWordBytes;
    if (filled == 0 && bytes.size() >= kWordBytes) {
      uint64_t word;
      std::memcpy(&word, bytes.data(), kWordBytes);
      hash_ = splitmix64_mix(hash_ ^ word);
      n_bytes_ += kWordBytes;
      bytes = bytes.subspan(kWordBytes);
      continue;
    }
    pending_ |= static_cast<uint64_t>(bytes[0]) << (8 * filled);
    ++n_bytes_;
    bytes = bytes.subspan(1);
    if (filled + 1 < kWordBytes) continue;
    hash_ = splitmix64_mix(hash_ ^ pending_);
    pending_ = 0;
  }
}

uint64_t Checksum64::value() const {
  return splitmix64_mix(splitmix64_mix(hash_ ^ pending_) + n_bytes_ * kGoldenGamma);
}

uint64_t checksum64(std::span<const std::byte> bytes, uint64_t seed) {
  Checksum64 checksum(seed);
  checksum.add(bytes);
  return checksum.value();
}

uint64_t checksum64(std::string_view text, uint64_t seed) { return checksum64(std::as_bytes(std::span(text)), seed); }

}  // namespace ds4
