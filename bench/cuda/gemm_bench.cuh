#pragma once

// Device memory, random weights in planes and a slow, separate reading of them, for gemm_bench.cu. The reference takes
// the planes from their description (weight_layout.h) and sums in double.

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "backends/cuda/kernels/gemm.h"
#include "backends/cuda/kernels/iq_tables.cuh"
#include "backends/cuda/kernels/number_formats.cuh"
#include "backends/cuda/kernels/weight_layout.h"

namespace ds4::cuda::bench {

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("FAILED: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(int64_t n) : n_(n) {
    check(cudaMalloc(&data_, static_cast<size_t>(n) * sizeof(T) + 256), "cudaMalloc");
    poison();
  }
  ~DeviceArray() { (void)cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  void poison() { check(cudaMemset(data_, 0xFF, static_cast<size_t>(n_) * sizeof(T)), "cudaMemset"); }
  std::vector<T> host() const {
    std::vector<T> values(static_cast<size_t>(n_));
    check(cudaMemcpy(values.data(), data_, values.size() * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return values;
  }
  void set(const std::vector<T>& values) {
    check(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  T* data() const { return data_; }
  int64_t size() const { return n_; }

 private:
  T* data_ = nullptr;
  int64_t n_;
};

__device__ inline uint32_t hash(uint64_t i) {
  i ^= i >> 31;
  i *= 0x7FB5D329728EA185ull;
  i ^= i >> 27;
  i *= 0x81DADEF4BC2DD44Dull;
  return static_cast<uint32_t>(i ^ (i >> 33));
}

static __global__ void fill_bytes(uint32_t* words, int64_t n, uint64_t seed) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x)
    words[i] = hash(static_cast<uint64_t>(i) + (seed << 40));
}

// Halves between 0.005 and 0.015, for scales.
static __global__ void fill_halves(uint16_t* halves, int64_t n, uint64_t seed) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x)
    halves[i] =
        to_f16(0.005f + 0.01f * static_cast<float>(hash(static_cast<uint64_t>(i) + (seed << 40)) >> 8) * 0x1p-24f);
}

static __global__ void fill_exponents(uint8_t* bytes, int64_t n, uint64_t seed) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x)
    bytes[i] = static_cast<uint8_t>(118 + hash(static_cast<uint64_t>(i) + (seed << 40)) % 6);
}

// About normal, with a few large ones.
static __global__ void fill_floats(float* x, int64_t n, float scale, uint64_t seed) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x) {
    float sum = 0.0f;
    for (int k = 0; k < 4; ++k)
      sum += static_cast<float>(hash(static_cast<uint64_t>(4 * i + k) + (seed << 40)) >> 8) * 0x1p-24f - 0.5f;
    x[i] = sum * scale * (i % 97 == 0 ? 6.0f : 1.0f);
  }
}

// A matrix of random valid values.
class RandomWeight {
 public:
  RandomWeight(WeightType type, int64_t n_out, int64_t n_in, uint64_t seed) : bytes_(total(type, n_out, n_in)) {
    int64_t offset = 0;
    for (int p = 0; p < 3; ++p) {
      const int64_t n = plane_row_bytes(type, p, n_in / 32) * n_out;
      if (n == 0) break;
      uint8_t* plane = bytes_.data() + offset;
      planes_.plane[p] = plane;
      const bool is_half = (type == WeightType::kQ8_0 && p == 1) || p == 2;
      if (is_half) {
        fill_halves<<<1024, 256>>>(reinterpret_cast<uint16_t*>(plane), n / 2, seed + static_cast<uint64_t>(p));
      } else if (type == WeightType::kMXFP4 && p == 1) {
        fill_exponents<<<1024, 256>>>(plane, n, seed + 1);
      } else {
        fill_bytes<<<1024, 256>>>(reinterpret_cast<uint32_t*>(plane), n / 4, seed + static_cast<uint64_t>(p));
      }
      offset += (n + 255) / 256 * 256;
    }
    check(cudaDeviceSynchronize(), "filling weights");
  }
  const Planes& planes() const { return planes_; }

 private:
  static int64_t total(WeightType type, int64_t n_out, int64_t n_in) {
    int64_t bytes = 0;
    for (int p = 0; p < 3; ++p) bytes += (plane_row_bytes(type, p, n_in / 32) * n_out + 255) / 256 * 256;
    return bytes;
  }
  DeviceArray<uint8_t> bytes_;
  Planes planes_;
};

// Element i of a row: what the integer is, and what multiplies and lowers it.
struct Element {
  int code;
  double scale, minimum;
};

__device__ inline Element element(WeightType type, const Planes& planes, int64_t row, int64_t n_in, int64_t i) {
  const int64_t unit = i / 32, j = i % 32, units = n_in / 32;
  const auto half_at = [&](int p, int64_t at) {
    return static_cast<double>(f16(reinterpret_cast<const uint16_t*>(planes.plane[p])[at]));
  };
  if (type == WeightType::kQ8_0) {
    const int64_t tile = unit / 32, in_tile = min(int64_t{32}, units - tile * 32);
    const uint8_t* codes = planes.plane[0] + row * n_in + tile * 1024 + ((j / 16) * in_tile + unit % 32) * 16;
    return {static_cast<int8_t>(codes[j % 16]), half_at(1, row * units + unit), 0.0};
  }
  if (type == WeightType::kQ4_K || type == WeightType::kMXFP4) {
    const uint8_t byte = planes.plane[0][(row * units + unit) * 16 + j % 16];
    const int nibble = j < 16 ? byte & 15 : byte >> 4;
    if (type == WeightType::kMXFP4)
      return {doubled_e2m1(static_cast<uint32_t>(nibble)),
              0.5 * static_cast<double>(e8m0(planes.plane[1][row * units + unit])), 0.0};
    const uint8_t* scales = planes.plane[1] + (row * units + unit) * 2;
    const int64_t super = row * (units / 8) + unit / 8;
    return {nibble, half_at(2, super * 2) * scales[0], half_at(2, super * 2 + 1) * scales[1]};
  }
  if (type == WeightType::kQ2_K) {
    const auto* words = reinterpret_cast<const uint32_t*>(planes.plane[0]) + (row * units + unit) * 2;
    const int64_t w = j / 16;
    const int code = static_cast<int>((words[w] >> (2 * (j % 16 / 4) + 8 * (j % 4))) & 3u);
    const uint8_t scale = planes.plane[1][(row * units + unit) * 2 + w];
    const int64_t super = row * (units / 8) + unit / 8;
    return {code, half_at(2, super * 2) * (scale & 15), half_at(2, super * 2 + 1) * (scale >> 4)};
  }
  const uint8_t* bytes = planes.plane[0] + (row * units + unit) * 8;
  const uint32_t code = (kIq2xxsCodes[bytes[j / 8]] >> (2 * (j % 8))) & 3u;
  const int magnitude = code == 0 ? 8 : code == 1 ? 25 : 43;
  const uint32_t signs = reinterpret_cast<const uint32_t*>(bytes)[1];
  const bool is_negative = (signs >> (4 * (j % 8) + j / 8)) & 1;
  const int64_t super = row * (units / 8) + unit / 8;
  const uint32_t scales = reinterpret_cast<const uint32_t*>(planes.plane[1])[super];
  return {is_negative ? -magnitude : magnitude,
          half_at(2, super) * 0.125 * (2.0 * ((scales >> (4 * (unit % 8))) & 15u) + 1.0), 0.0};
}

// One output: its value and the sum of the magnitudes of its terms.
struct Dot {
  double value, magnitude;
};

__device__ inline Dot dot(WeightType type, const Planes& planes, int64_t weight_row, int64_t n_in,
                          const TileActivations& x, int64_t row, int64_t first) {
  const int64_t block = type == WeightType::kQ8_0 || type == WeightType::kMXFP4 ? 32 : 256;
  Dot sum{0.0, 0.0};
  for (int64_t i = 0; i < n_in; ++i) {
    const Element w = element(type, planes, weight_row, n_in, i);
    const double a =
        static_cast<double>(x.codes[row * x.width + first + i]) * x.scales[(first + i) / block * x.n_rows + row];
    sum.value += (w.code * w.scale - w.minimum) * a;
    sum.magnitude += fabs(w.code * w.scale * a) + fabs(w.minimum * a);
  }
  return sum;
}

// rows: null for all in turn; the outputs of row r use weights from line weight_row(r).
struct ReferenceArgs {
  WeightType type;
  Planes planes;
  TileActivations x;
  int64_t n_out, n_in, n_groups;
  const int32_t* experts;  // of each output row, or null
  int64_t row_divisor;     // output row to row of x
  int64_t n_rows;          // of the output
};

static __global__ void reference_kernel(ReferenceArgs args, Dot* out) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= args.n_rows * args.n_out) return;
  const int64_t row = i / args.n_out, o = i % args.n_out;
  const int64_t line = (args.experts == nullptr ? 0 : args.experts[row] * args.n_out) + o;
  out[i] = dot(args.type, args.planes, line, args.n_in, args.x, row / args.row_divisor,
               o / (args.n_out / args.n_groups) * args.n_in);
}

inline std::vector<Dot> reference(const ReferenceArgs& args) {
  DeviceArray<Dot> out(args.n_rows * args.n_out);
  reference_kernel<<<static_cast<unsigned>((args.n_rows * args.n_out + 127) / 128), 128>>>(args, out.data());
  check(cudaDeviceSynchronize(), "the reference");
  return out.host();
}

// A kernel's activations.
class Quantised {
 public:
  Quantised(int64_t n_rows, int64_t width, int32_t block)
      : codes_(n_rows * width), scales_(n_rows * width / block), sums_(n_rows * width / 16), block_(block) {
    out_ = {codes_.data(), scales_.data(), sums_.data(), n_rows, width};
  }
  void fill(const float* x) { check(tile_quantize({x, block_, out_}, nullptr), "tile_quantize"); }
  const TileActivations& view() const { return out_; }
  DeviceArray<int8_t>& codes() { return codes_; }
  DeviceArray<float>& scales() { return scales_; }
  DeviceArray<__half>& sums() { return sums_; }

 private:
  DeviceArray<int8_t> codes_;
  DeviceArray<float> scales_;
  DeviceArray<__half> sums_;
  int32_t block_;
  TileActivations out_;
};

inline const char* type_name(WeightType type) {
  const char* names[] = {"F32", "F16", "BF16", "Q8_0", "Q2_K", "Q4_K", "IQ2_XXS", "MXFP4"};
  return names[static_cast<int>(type)];
}
inline int32_t block_of(WeightType type) { return type == WeightType::kQ8_0 || type == WeightType::kMXFP4 ? 32 : 256; }

}  // namespace ds4::cuda::bench
