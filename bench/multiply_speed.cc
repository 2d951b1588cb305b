// Times the CPU backend's products of quantised weights with few columns, on every instruction set that runs here:
//
//   ninja -C build/dev multiply_speed && build/dev/multiply_speed [MIB]
//
// Weights (400 MiB) are larger than caches; threads take pieces of half a megabyte at the same moment, in calls of 32
// rows, as the backend does. The 5th percentile of all pieces stands in the table: other programs disturb it least.
// Weights have pages of 4 KiB, as a mapped file has.

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <random>
#include <span>
#include <thread>
#include <vector>

#include "backends/cpu/kernels.h"
#include "gguf/blocks.h"

namespace ds4 {

namespace {

constexpr int64_t kWidth = 4096;
constexpr int64_t kCallRows = 32;
constexpr int64_t kPieceBytes = 500'000;
constexpr double kSeconds = 0.5;

// Any bits are weights, but factors must be ordinary numbers.
void fill_weights(DType type, std::span<std::byte> bytes) {
  std::mt19937_64 random(1);
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + i, &word, sizeof(word));
  }
  const auto block_bytes = static_cast<size_t>(dtype_info(type).block_bytes);
  for (size_t i = 0; i + block_bytes <= bytes.size(); i += block_bytes) {
    const auto half = static_cast<uint16_t>(0x2000 + i % 0x400);
    const auto put = [&](size_t offset) { std::memcpy(bytes.data() + i + offset, &half, sizeof(half)); };
    if (type == DType::kMXFP4) {
      bytes[i] = static_cast<std::byte>(120 + i % 8);
    } else if (type == DType::kQ2_K) {
      put(offsetof(BlockQ2_K, d));
      put(offsetof(BlockQ2_K, dmin));
    } else {
      put(0);
      if (type == DType::kQ4_K) put(offsetof(BlockQ4_K, dmin));
    }
  }
}

struct Columns {
  std::vector<float> values;
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<int16_t> sums;
  std::vector<float> out;
  std::vector<cpu::Column> columns;

  Columns(const cpu::Kernels& kernels, ActivationForm form, int64_t n_columns, int64_t n_rows)
      : values(static_cast<size_t>(kWidth)), out(static_cast<size_t>(n_columns * n_rows)) {
    const int64_t per_scale = form == ActivationForm::kQ8_0 ? 32 : 256;
    const int64_t per_sum = form == ActivationForm::kQ8_0 ? 32 : 16;
    codes.resize(static_cast<size_t>(n_columns * kWidth));
    scales.resize(codes.size() / static_cast<size_t>(per_scale));
    sums.resize(codes.size() / static_cast<size_t>(per_sum));
    std::mt19937 random(2);
    for (int64_t c = 0; c < n_columns; ++c) {
      for (float& value : values) value = static_cast<float>(random() % 2001) * 0.001f - 1.0f;
      int8_t* column_codes = codes.data() + c * kWidth;
      float* column_scales = scales.data() + c * kWidth / per_scale;
      int16_t* column_sums = sums.data() + c * kWidth / per_sum;
      const auto quantize = form == ActivationForm::kQ8_0 ? kernels.quantize_q8_0 : kernels.quantize_q8_k;
      quantize(values.data(), kWidth, column_codes, column_scales, column_sums);
      columns.push_back({nullptr, column_codes, column_scales, column_sums, out.data() + c * n_rows});
    }
  }
};

struct Case {
  const cpu::Kernels& kernels;
  cpu::WeightMatrix weight;
  int64_t n_rows;
  int64_t n_columns;
  int n_threads;
};

// Seconds in which every thread reads a piece of `piece_rows` rows.
double time_of_piece(const Case& timed, int64_t piece_rows) {
  const ActivationForm form = activation_form(timed.weight.type, NumericProfile::kCanonical);
  const int64_t n_pieces = timed.n_rows / timed.n_threads / piece_rows;
  std::vector<std::vector<double>> seconds(static_cast<size_t>(timed.n_threads));
  std::atomic<int> n_waiting{0};
  std::atomic<int64_t> turn{0};
  std::atomic<bool> is_over{false};
  const auto begin = std::chrono::steady_clock::now();
  const auto since = [](auto time) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - time).count();
  };
  const auto work = [&](int thread) {
    Columns columns(timed.kernels, form, timed.n_columns, timed.n_rows);
    for (int64_t i = 0;; ++i) {
      // A thread that sleeps would not come back in time.
      if (n_waiting.fetch_add(1) == timed.n_threads - 1) {
        if (since(begin) > kSeconds) is_over = true;
        n_waiting = 0;
        ++turn;
      }
      while (turn.load() == i) {
      }
      if (is_over) return;
      const int64_t first = (thread * n_pieces + i % n_pieces) * piece_rows;
      const auto start = std::chrono::steady_clock::now();
      for (int64_t row = first; row < first + piece_rows; row += kCallRows)
        timed.kernels.multiply(timed.weight, form, row, row + kCallRows, columns.columns);
      seconds[static_cast<size_t>(thread)].push_back(since(start));
    }
  };
  std::vector<std::jthread> threads;
  for (int t = 0; t < timed.n_threads; ++t) threads.emplace_back(work, t);
  threads.clear();
  std::vector<double>& slowest = seconds[0];
  for (const std::vector<double>& other : seconds) {
    for (size_t i = 0; i < slowest.size(); ++i) slowest[i] = std::max(slowest[i], other[i]);
  }
  std::sort(slowest.begin(), slowest.end());
  return slowest[slowest.size() / 20];
}

void time_type(DType type, std::span<std::byte> memory) {
  fill_weights(type, memory);
  const auto row_size = static_cast<int64_t>(row_bytes(type, kWidth).value());
  const int64_t n_rows = static_cast<int64_t>(memory.size()) / row_size;
  const int64_t piece_rows = kPieceBytes / row_size / kCallRows * kCallRows;
  for (const cpu::Isa isa : cpu::available_isas()) {
    if (isa == cpu::Isa::kPortable) continue;
    for (const int n_threads : {1, 2}) {
      for (const int64_t n_columns : {1, 2, 4, 8, 16, 32}) {
        const double seconds = time_of_piece(
            {cpu::kernels_of(isa), {type, memory.data(), row_size, kWidth}, n_rows, n_columns, n_threads}, piece_rows);
        fmt::print("{:8} {:8} {} threads {:3} columns {:7.2f} GB/s {:8.2f} ns per 256 weights and thread\n",
                   dtype_name(type), cpu::isa_name(isa), n_threads, n_columns,
                   static_cast<double>(n_threads * piece_rows * row_size) / seconds * 1e-9,
                   seconds / static_cast<double>(piece_rows * kWidth) * 256e9);
      }
    }
  }
}

}  // namespace

}  // namespace ds4

int main(int argc, char** argv) {
  const size_t n_bytes = static_cast<size_t>(argc > 1 ? std::atoi(argv[1]) : 400) << 20;
  void* memory = mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  madvise(memory, n_bytes, MADV_NOHUGEPAGE);
  for (const ds4::DType type :
       {ds4::DType::kQ8_0, ds4::DType::kMXFP4, ds4::DType::kQ2_K, ds4::DType::kQ4_K, ds4::DType::kIQ2_XXS})
    ds4::time_type(type, {static_cast<std::byte*>(memory), n_bytes});
}
