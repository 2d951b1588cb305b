#pragma once

// Reproducible randomness and hashing of names, the same on every machine: FNV-1a, the finaliser of
// SplitMix64, and xorshift64* (the sampler's generator). Not for secrets. A generator belongs to one thread.

#include <cstdint>
#include <string_view>

namespace ds4 {

constexpr uint64_t fnv1a64(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return hash;
}

// 2^64 divided by the golden ratio: the step between SplitMix64's states.
inline constexpr uint64_t kGoldenGamma = 0x9E3779B97F4A7C15;

// Output i (from 0) of SplitMix64 with seed s is splitmix64_mix(s + (i + 1) * kGoldenGamma).
constexpr uint64_t splitmix64_mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

class Xorshift64Star {
 public:
  // Seed 0 would stay 0 for ever and is replaced.
  explicit constexpr Xorshift64Star(uint64_t seed) : state_(seed != 0 ? seed : kGoldenGamma) {}

  constexpr uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1D;
  }
  // In [0, 1), a multiple of 2^-24: exact in float.
  constexpr float next_unit() { return static_cast<float>(next() >> 40) * 0x1p-24f; }

 private:
  uint64_t state_;
};

}  // namespace ds4
