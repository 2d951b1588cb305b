#include <cstring>

#include "tools/bench/limits_kernels.h"

namespace ds4 {

// Keeps the compiler from doing work once that is written down many times.
#define DS4_FORGET(memory) __asm__ volatile("" : : "r"(memory) : "memory")

void portable_int8_rounds(int64_t rounds) {
  int8_t a[kPortableMacs] = {1};
  int8_t b[kPortableMacs] = {1};
  int32_t sum = 0;
  for (int64_t round = 0; round < rounds; ++round) {
    DS4_FORGET(a);
    DS4_FORGET(b);
    for (int64_t i = 0; i < kPortableMacs; ++i) sum += int32_t{a[i]} * b[i];
  }
  DS4_FORGET(&sum);
}

void portable_f32_rounds(int64_t rounds) {
  constexpr int64_t kLanes = 32;
  float sums[kLanes] = {};
  float a[kLanes] = {};
  for (int64_t round = 0; round < rounds; ++round) {
    DS4_FORGET(a);
    for (int64_t step = 0; step < kPortableMacs / kLanes; ++step) {
      for (int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[lane] * 0.5f;
    }
  }
  DS4_FORGET(sums);
}

uint64_t portable_read(const void* memory, int64_t n_bytes) {
  constexpr int64_t kLanes = 64;
  uint64_t sums[kLanes] = {};
  const auto* bytes = static_cast<const unsigned char*>(memory);
  for (int64_t at = 0; at < n_bytes; at += static_cast<int64_t>(sizeof sums)) {
    uint64_t line[kLanes];
    std::memcpy(line, bytes + at, sizeof line);
    for (int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += line[lane];
  }
  uint64_t sum = 0;
  for (const uint64_t lane : sums) sum += lane;
  return sum;
}

}  // namespace ds4
