#include "tools/bench/limits.h"

#include <sys/syscall.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstring>
#include <ctime>
#include <span>

#include "tools/bench/limits_kernels.h"

namespace ds4 {

namespace {

constexpr int kPasses = 5;
constexpr uint64_t kLeastBufferBytes = uint64_t{512} << 20;
constexpr uint64_t kMostBufferBytes = uint64_t{4} << 30;
constexpr int64_t kPieceBytes = 1 << 20;
constexpr double kPassSeconds = 0.04;

struct PeakKernel {
  const char* kind;
  const char* isa;
  void (*run)(int64_t rounds);
  int64_t macs;  // of a round
};

#if defined(__x86_64__)

bool request_amx() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

std::vector<PeakKernel> peak_kernels() {
  __builtin_cpu_init();
  std::vector<PeakKernel> kernels;
  if (__builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0) {
    kernels.push_back({"int8", "avx2", avx2_int8_rounds, kAvx2Int8Macs});
    kernels.push_back({"f32", "avx2", avx2_f32_rounds, kAvx2F32Macs});
  }
  if (__builtin_cpu_supports("avxvnni") != 0) {
    kernels.push_back({"int8", "avx-vnni", avxvnni_int8_rounds, kAvxVnniInt8Macs});
  }
  if (__builtin_cpu_supports("avx512vnni") != 0 && __builtin_cpu_supports("avx512bw") != 0) {
    kernels.push_back({"int8", "avx512-vnni", avx512_int8_rounds, kAvx512Int8Macs});
  }
  if (__builtin_cpu_supports("avx512f") != 0) {
    kernels.push_back({"f32", "avx512", avx512_f32_rounds, kAvx512F32Macs});
  }
  if (__builtin_cpu_supports("avx512bf16") != 0) {
    kernels.push_back({"bf16", "avx512-bf16", avx512_bf16_rounds, kAvx512Bf16Macs});
  }
  if (__builtin_cpu_supports("amx-int8") != 0 && __builtin_cpu_supports("amx-bf16") != 0 && request_amx()) {
    kernels.push_back({"int8", "amx", amx_int8_rounds, kAmxInt8Macs});
    kernels.push_back({"bf16", "amx", amx_bf16_rounds, kAmxBf16Macs});
  }
  return kernels;
}

uint64_t read_memory(const void* memory, int64_t n_bytes) {
  return __builtin_cpu_supports("avx2") != 0 ? avx2_read(memory, n_bytes) : portable_read(memory, n_bytes);
}

#else

std::vector<PeakKernel> peak_kernels() {
  std::vector<PeakKernel> kernels;
#if defined(__aarch64__)
  constexpr unsigned long kDotProduct = 1UL << 20;  // HWCAP_ASIMDDP
  if ((getauxval(AT_HWCAP) & kDotProduct) != 0) {
    kernels.push_back({"int8", "neon-dotprod", neon_int8_rounds, kNeonInt8Macs});
  }
  kernels.push_back({"f32", "neon", neon_f32_rounds, kNeonF32Macs});
#endif
  return kernels;
}

uint64_t read_memory(const void* memory, int64_t n_bytes) { return portable_read(memory, n_bytes); }

#endif

uint64_t buffer_bytes() {
  const long cache_bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
  const uint64_t wanted = 8 * static_cast<uint64_t>(std::max(cache_bytes, 0L));
  return std::clamp(wanted, kLeastBufferBytes, kMostBufferBytes);
}

double seconds_since(const Clock& clock, int64_t since_us) {
  return static_cast<double>(std::max<int64_t>(clock.elapsed_us(since_us), 1)) * 1e-6;
}

double process_cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

Result<double> measure_read(Backend& backend, ThreadPool& threads, const Clock& clock) {
  const uint64_t n_bytes = buffer_bytes();
  const std::unique_ptr<Buffer> buffer = TRY(backend.allocate(n_bytes));
  std::byte* data = buffer->host_data();
  const auto n_pieces = static_cast<int64_t>(n_bytes) / kPieceBytes;
  threads.parallel_for(n_pieces, 1, [&](int64_t first, int64_t last) {
    std::memset(data + first * kPieceBytes, 1, static_cast<size_t>((last - first) * kPieceBytes));
  });
  double best = 0;
  std::atomic<uint64_t> checksum{0};
  for (int pass = 0; pass < kPasses; ++pass) {
    const int64_t since_us = clock.now_us();
    threads.parallel_for(n_pieces, 1, [&](int64_t first, int64_t last) {
      checksum += read_memory(data + first * kPieceBytes, (last - first) * kPieceBytes);
    });
    best = std::max(best, static_cast<double>(n_bytes) / seconds_since(clock, since_us));
  }
  CHECK(checksum != 0, "memory full of ones adds up to nothing");
  return best;
}

// Rounds come in many small portions, so that a thread which the system delays does not count for all.
double measure_peak(const PeakKernel& kernel, ThreadPool& threads, const Clock& clock) {
  constexpr int64_t kPortionsPerThread = 32;
  const int64_t n_portions = kPortionsPerThread * threads.n_threads();
  int64_t rounds = 64;  // of a portion
  double best = 0;
  for (int pass = 0; pass < kPasses;) {
    const int64_t since_us = clock.now_us();
    threads.parallel_for(n_portions, 1, [&](int64_t first, int64_t last) { kernel.run((last - first) * rounds); });
    const double seconds = seconds_since(clock, since_us);
    if (seconds < kPassSeconds) {
      rounds *= 2;
      continue;
    }
    best = std::max(best, static_cast<double>(n_portions * rounds * kernel.macs) / seconds);
    ++pass;
  }
  return best;
}

}  // namespace

double MachineLimits::peak(std::string_view kind) const {
  double best = 0;
  for (const PeakRate& rate : peaks) {
    if (rate.kind == kind) best = std::max(best, rate.macs_per_s);
  }
  return best;
}

Result<MachineLimits> measure_limits(Backend& backend, ThreadPool& threads, const Clock& clock) {
  MachineLimits limits{.n_threads = threads.n_threads(),
                       .read_bytes_per_s = TRY(measure_read(backend, threads, clock))};
  std::vector<PeakKernel> kernels = peak_kernels();
  kernels.push_back({"int8", "portable", portable_int8_rounds, kPortableMacs});
  kernels.push_back({"f32", "portable", portable_f32_rounds, kPortableMacs});
  const int64_t since_us = clock.now_us();
  const double since_cpu_s = process_cpu_seconds();
  for (const PeakKernel& kernel : kernels) {
    limits.peaks.push_back({kernel.kind, kernel.isa, measure_peak(kernel, threads, clock)});
  }
  limits.cpu_share =
      (process_cpu_seconds() - since_cpu_s) / (seconds_since(clock, since_us) * static_cast<double>(limits.n_threads));
  return limits;
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const PeakKernel& kernel : peak_kernels()) {
    if (std::ranges::find(names, kernel.isa) == names.end()) names.emplace_back(kernel.isa);
  }
  return names;
}

}  // namespace ds4
