// Checks and times the tile kernels of the CUDA backend alone, on random weights of the shapes of DeepSeek V4 Flash.
// Needs nothing but the CUDA runtime:
//   nvcc -std=c++20 -O3 -fmad=false -gencode=arch=compute_90a,code=sm_90a -Isrc -Ibench/cuda bench/cuda/gemm_bench.cu
//     bench/cuda/gemm_checks.cu src/backends/cuda/kernels/{gemm_int8,experts_gemm,gemm_f16,gemm_quantize,matmul}.cu
// gemm_bench check | gemm_bench speed [rows ...]

#include <algorithm>
#include <cstring>
#include <string>

#include "gemm_bench.cuh"

namespace ds4::cuda::bench {
int run_checks();
namespace {

constexpr int kRepeats = 12;

// The rates of the tensor cores by mma.sync alone, eight independent accumulators to a warp.
template <bool kInt8>
__global__ void peak_kernel(int n, float* sink) {
  int sums[8][4] = {};
  float floats[8][4] = {};
  uint32_t a[4];
  for (int i = 0; i < 4; ++i) a[i] = hash(threadIdx.x * 4u + i);
  uint32_t b[2] = {hash(threadIdx.x + 999u), hash(threadIdx.x + 777u)};
  for (int r = 0; r < n; ++r) {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      if constexpr (kInt8) {
        asm volatile(
            "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+r"(sums[k][0]), "+r"(sums[k][1]), "+r"(sums[k][2]), "+r"(sums[k][3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
      } else {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(floats[k][0]), "+f"(floats[k][1]), "+f"(floats[k][2]), "+f"(floats[k][3])
            : "r"(a[0] & 0x3FFF3FFFu), "r"(a[1] & 0x3FFF3FFFu), "r"(a[2] & 0x3FFF3FFFu), "r"(a[3] & 0x3FFF3FFFu),
              "r"(b[0] & 0x3FFF3FFFu), "r"(b[1] & 0x3FFF3FFFu));
      }
    }
  }
  float total = 0.0f;
  for (int k = 0; k < 8; ++k) {
    for (int i = 0; i < 4; ++i) total += static_cast<float>(sums[k][i]) + floats[k][i];
  }
  if (total == 1.2345f) *sink = total;
}

template <class Body>
double median_us(const Body& body) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  for (int i = 0; i < 2; ++i) body(i);
  std::vector<float> times;
  for (int i = 0; i < kRepeats; ++i) {
    check(cudaEventRecord(begin), "record");
    body(i);
    check(cudaEventRecord(end), "record");
    check(cudaEventSynchronize(end), "synchronise");
    float ms = 0.0f;
    check(cudaEventElapsedTime(&ms, begin, end), "elapsed");
    times.push_back(ms);
  }
  (void)cudaEventDestroy(begin);
  (void)cudaEventDestroy(end);
  std::sort(times.begin(), times.end());
  return 1e3 * times[times.size() / 2];
}

double peak_int8 = 1.0, peak_bf16 = 1.0;

void report(const char* name, int64_t rows, double us, double flop) {
  const double rate = flop / us * 1e-6;
  std::printf("%-22s R %5lld %9.1f us %7.1f TFLOP/s  %4.1f %% of int8 mma, %4.1f %% of bf16 mma\n", name,
              static_cast<long long>(rows), us, rate, 100.0 * rate / peak_int8, 100.0 * rate / peak_bf16);
}

void measure_peaks() {
  DeviceArray<float> sink(1);
  const int n = 4096;
  const double products = 132.0 * 2 * 8 * n * 8;  // mma
  const auto rate = [&](auto kernel, double macs) {
    const double us = median_us([&](int) { kernel<<<132 * 2, 256>>>(n, sink.data()); });
    return products * macs * 2 / us * 1e-6;
  };
  peak_int8 = rate(peak_kernel<true>, 16 * 8 * 32);
  peak_bf16 = rate(peak_kernel<false>, 16 * 8 * 16);
  std::printf("mma.sync peaks: int8 %.0f, bf16 %.0f TFLOP/s\n", peak_int8, peak_bf16);
}

struct Shape {
  const char* name;
  WeightType type;
  int64_t n_out, n_in, n_groups;
};

double time_dense(const Shape& shape, int64_t rows) {
  const RandomWeight one(shape.type, shape.n_out, shape.n_in, 1), two(shape.type, shape.n_out, shape.n_in, 5);
  DeviceArray<float> x(rows * shape.n_in * shape.n_groups), out(rows * shape.n_out);
  fill_floats<<<1024, 256>>>(x.data(), x.size(), 1.0f, 3);
  Quantised codes(rows, shape.n_in * shape.n_groups, block_of(shape.type));
  codes.fill(x.data());
  const double us = median_us([&](int i) {
    check(tile_matmul({shape.type, i % 2 == 0 ? one.planes() : two.planes(), codes.view(), out.data(), shape.n_out,
                       shape.n_in, shape.n_groups},
                      nullptr),
          shape.name);
  });
  report(shape.name, rows, us, 2.0 * rows * shape.n_out * shape.n_in);
  return us;
}

double time_swiglu(int64_t rows) {
  const RandomWeight gate(WeightType::kQ8_0, 2048, 4096, 1), up(WeightType::kQ8_0, 2048, 4096, 5);
  DeviceArray<float> x(rows * 4096), out(rows * 2048);
  fill_floats<<<1024, 256>>>(x.data(), x.size(), 1.0f, 3);
  Quantised codes(rows, 4096, 32);
  codes.fill(x.data());
  const double us = median_us([&](int) {
    check(tile_swiglu({WeightType::kQ8_0, gate.planes(), up.planes(), codes.view(), out.data(), 2048, 4096, 10.0f},
                      nullptr),
          "swiglu");
  });
  report("shared gate, up Q8_0", rows, us, 4.0 * rows * 2048 * 4096);
  return us;
}

double time_quantize(int64_t rows, int64_t width, int32_t block) {
  DeviceArray<float> x(rows * width);
  fill_floats<<<1024, 256>>>(x.data(), x.size(), 1.0f, 3);
  Quantised codes(rows, width, block);
  const double us = median_us([&](int) { codes.fill(x.data()); });
  std::printf("quantise %3d, %5lld wide  R %5lld %9.1f us %7.2f TB/s\n", block, static_cast<long long>(width),
              static_cast<long long>(rows), us, static_cast<double>(rows * width) * 5 / us * 1e-6);
  return us;
}

double time_real(const Shape& shape, int64_t rows) {
  DeviceArray<uint16_t> weight(shape.n_out * shape.n_in);
  fill_halves<<<1024, 256>>>(weight.data(), weight.size(), 9);
  DeviceArray<float> x(rows * shape.n_in), out(rows * shape.n_out);
  const int64_t n_parts = real_matmul_parts(shape.n_out, shape.n_in);
  DeviceArray<float> parts(n_parts * out.size());
  fill_floats<<<1024, 256>>>(x.data(), x.size(), 1.0f, 3);
  const double us = median_us([&](int) {
    check(real_matmul({shape.type, reinterpret_cast<const uint8_t*>(weight.data()), x.data(), out.data(), parts.data(),
                       rows, shape.n_out, shape.n_in},
                      nullptr),
          shape.name);
  });
  report(shape.name, rows, us, 2.0 * rows * shape.n_out * shape.n_in);
  return us;
}

double time_experts(int64_t rows, WeightType gate_type, WeightType down_type) {
  constexpr int64_t kExperts = 256, kUsed = 6, kWidth = 4096, kHidden = 2048;
  const RandomWeight gate(gate_type, kExperts * kHidden, kWidth, 1), up(gate_type, kExperts * kHidden, kWidth, 5);
  const RandomWeight down(down_type, kExperts * kWidth, kHidden, 9);
  const int64_t n_pairs = rows * kUsed;
  DeviceArray<float> x(rows * kWidth), mid(n_pairs * kHidden), weights(n_pairs), pairs_out(n_pairs * kWidth),
      out(rows * kWidth);
  fill_floats<<<1024, 256>>>(x.data(), x.size(), 1.0f, 3);
  fill_floats<<<1024, 256>>>(weights.data(), n_pairs, 0.3f, 4);
  std::vector<int32_t> ids;
  uint64_t state = 7;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < kUsed; ++k) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      ids.push_back(static_cast<int32_t>((state >> 33) % kExperts));
    }
  }
  DeviceArray<int32_t> device_ids(n_pairs), pairs(n_pairs), n_tiles(1);
  device_ids.set(ids);
  DeviceArray<ExpertTile> tiles(max_expert_tiles(n_pairs, kExperts));
  Quantised codes(rows, kWidth, block_of(gate_type)), mid_codes(n_pairs, kHidden, block_of(down_type));
  codes.fill(x.data());
  const TileExperts args{gate_type,      down_type,
                         gate.planes(),  up.planes(),
                         down.planes(),  {pairs.data(), tiles.data(), n_tiles.data()},
                         codes.view(),   mid_codes.view(),
                         weights.data(), 10.0f,
                         mid.data(),     pairs_out.data(),
                         kExperts,       kUsed,
                         kWidth,         kHidden};
  const double plan_us =
      median_us([&](int) { check(plan_experts(device_ids.data(), n_pairs, kExperts, args.plan, nullptr), "plan"); });
  const double mid_us = median_us([&](int) { check(tile_experts_mid(args, nullptr), "mid"); });
  const double quantise_us = median_us([&](int) { mid_codes.fill(mid.data()); });
  const double down_us = median_us([&](int) { check(tile_experts_down(args, nullptr), "down"); });
  const double sum_us = median_us(
      [&](int) { check(sum_pairs({pairs_out.data(), nullptr, out.data(), rows, kUsed, kWidth}, nullptr), "sum"); });
  const std::string name = type_name(gate_type);
  report(("experts up " + name).c_str(), rows, mid_us, 4.0 * n_pairs * kWidth * kHidden);
  report((std::string("experts down ") + type_name(down_type)).c_str(), rows, down_us,
         2.0 * n_pairs * kWidth * kHidden);
  std::printf("  plan %.1f us, quantise mid %.1f us, sum %.1f us\n", plan_us, quantise_us, sum_us);
  return plan_us + mid_us + quantise_us + down_us + sum_us;
}

void run_speed(int64_t rows) {
  constexpr auto kQ8 = WeightType::kQ8_0;
  double layer = 0.0;
  layer += time_dense({"q_a Q8_0", kQ8, 1024, 4096, 1}, rows);
  layer += time_dense({"kv Q8_0", kQ8, 512, 4096, 1}, rows);
  layer += time_dense({"q_b Q8_0", kQ8, 32768, 1024, 1}, rows);
  layer += time_dense({"out_a Q8_0", kQ8, 8192, 4096, 8}, rows);
  layer += time_dense({"out_b Q8_0", kQ8, 4096, 8192, 1}, rows);
  layer += time_swiglu(rows);
  layer += time_dense({"shared down Q8_0", kQ8, 4096, 2048, 1}, rows);
  layer += time_quantize(rows, 4096, 32) * 2 + time_quantize(rows, 4096, 256);
  layer += time_quantize(rows, 32768, 32) + time_quantize(rows, 8192, 32) + time_quantize(rows, 2048, 32) * 1.5;
  layer += time_experts(rows, WeightType::kIQ2_XXS, WeightType::kQ2_K);
  layer += time_real({"router F16", WeightType::kF16, 256, 4096, 1}, rows);
  layer += 2 * time_real({"hc_fn F16", WeightType::kF16, 24, 16384, 1}, rows);
  double four = 2 * time_real({"compressor 4 F16", WeightType::kF16, 1024, 4096, 1}, rows);
  four += 2 * time_real({"index compressor F16", WeightType::kF16, 256, 4096, 1}, rows);
  four += time_real({"index proj F16", WeightType::kF16, 64, 4096, 1}, rows);
  four += time_real({"index q_b F16", WeightType::kF16, 8192, 1024, 1}, rows);
  const double many = 2 * time_real({"compressor 128 F16", WeightType::kF16, 512, 4096, 1}, rows);
  const double total = 43 * layer + 21 * four + 20 * many;
  std::printf(
      "== R %lld: all products and quantisations %.1f ms (43 layers %.1f, ratio 4 %.1f, ratio 128 %.1f): %.0f tok/s\n",
      static_cast<long long>(rows), total * 1e-3, 43e-3 * layer, 21e-3 * four, 20e-3 * many,
      1e6 * static_cast<double>(rows) / total);
}

void run_other_types(int64_t rows) {
  time_dense({"head Q8_0", WeightType::kQ8_0, 129280, 4096, 1}, std::min<int64_t>(rows, 512));
  for (const WeightType type : {WeightType::kQ4_K, WeightType::kQ2_K, WeightType::kIQ2_XXS, WeightType::kMXFP4})
    time_dense({type_name(type), type, 8192, 4096, 1}, rows);
}

}  // namespace
}  // namespace ds4::cuda::bench

int main(int argc, char** argv) {
  using namespace ds4::cuda::bench;
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "device");
  std::printf("%s, %d multiprocessors\n", properties.name, properties.multiProcessorCount);
  if (argc > 1 && std::strcmp(argv[1], "check") == 0) return run_checks();
  measure_peaks();
  std::vector<int64_t> rows;
  for (int i = 2; i < argc; ++i) rows.push_back(std::atoll(argv[i]));
  if (rows.empty()) rows = {64, 512, 2048, 4096};
  for (const int64_t r : rows) run_speed(r);
  run_other_types(rows.back());
  return 0;
}
