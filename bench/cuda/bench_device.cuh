#pragma once

// What the CUDA benches share: device memory with synthetic weights in planes, timing by graph replays, and
// comparisons.

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backends/cuda/kernels/gemv.h"

namespace ds4::cuda::bench {

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("FAILED %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

template <class T>
class Array {
 public:
  explicit Array(size_t n) : n_(n) { check(cudaMalloc(&data_, std::max<size_t>(n, 1) * sizeof(T)), "cudaMalloc"); }
  ~Array() { (void)cudaFree(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  T* get() const { return static_cast<T*>(data_); }
  size_t size() const { return n_; }
  std::vector<T> host() const {
    std::vector<T> out(n_);
    check(cudaMemcpy(out.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost), "download");
    return out;
  }
  void set(const std::vector<T>& values) const {
    check(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "upload");
  }
  void poison() const { check(cudaMemset(data_, 0xFF, n_ * sizeof(T)), "memset"); }

 private:
  size_t n_;
  void* data_ = nullptr;
};

__device__ inline uint32_t mixed(uint64_t i) {
  i = (i ^ (i >> 31)) * 0x9E3779B97F4A7C15ull;
  i = (i ^ (i >> 29)) * 0xBF58476D1CE4E5B9ull;
  return static_cast<uint32_t>(i >> 32);
}
enum class Fill : int { kBytes, kScales, kBytes63, kExponents, kHalves };
// Random bytes, F16 from 2^-7 to 2^-6 (also as halves of weights, of either sign), bytes below 64, E8M0 near 2^-6.
static __global__ void fill_kernel(uint8_t* to, size_t n, uint64_t seed, Fill fill) {
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n / 2; i += size_t{gridDim.x} * blockDim.x) {
    const uint32_t r = mixed(i + seed * 0x100000001ull);
    auto value = static_cast<uint16_t>(r);
    if (fill == Fill::kScales) value = static_cast<uint16_t>(0x2000u | (r & 0x3FFu));
    if (fill == Fill::kHalves) value = static_cast<uint16_t>((r & 0x83FFu) | 0x2400u);
    if (fill == Fill::kBytes63) value = static_cast<uint16_t>(r & 0x3F3Fu);
    if (fill == Fill::kExponents) value = static_cast<uint16_t>(0x7979u + (r & 0x0101u));
    reinterpret_cast<uint16_t*>(to)[i] = value;
  }
}
static __global__ void fill_floats_kernel(float* to, size_t n, uint64_t seed) {
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n; i += size_t{gridDim.x} * blockDim.x)
    to[i] = (static_cast<float>(mixed(i + seed * 0x300000001ull)) * 0x1p-31f - 1.0f) * 2.0f;
}
inline void fill(uint8_t* to, size_t n, uint64_t seed, Fill kind) { fill_kernel<<<1024, 256>>>(to, n, seed, kind); }

inline std::unique_ptr<Array<float>> floats(size_t n, uint64_t seed) {
  auto array = std::make_unique<Array<float>>(n);
  fill_floats_kernel<<<256, 256>>>(array->get(), n, seed);
  return array;
}

// Copies of one synthetic matrix, so that rotating through them never finds one in L2.
class Matrices {
 public:
  Matrices(WeightType type, int64_t n_rows, int64_t n_in, int copies)
      : type_(type),
        n_rows_(n_rows),
        n_in_(n_in),
        planes_(weight_planes(type, n_rows, n_in)),
        stride_((planes_.size_bytes + 255) / 256 * 256),
        data_(static_cast<size_t>(stride_) * copies) {
    for (int c = 0; c < copies; ++c) {
      for (int p = 0; p < planes_.n_planes; ++p) {
        fill(data_.get() + c * stride_ + planes_.offset[p], static_cast<size_t>(n_rows * planes_.row_bytes[p]),
             static_cast<uint64_t>(17 * c + p + 1 + n_rows), kind(p));
      }
    }
    copies_ = copies;
  }
  Weight at(int i) const { return weight_at(type_, data_.get() + i % copies_ * stride_, n_rows_, n_in_); }
  int64_t bytes() const { return planes_.size_bytes; }

 private:
  Fill kind(int plane) const {
    if (type_ == WeightType::kF16 || type_ == WeightType::kBF16) return Fill::kHalves;
    if (plane == 0) return Fill::kBytes;
    if (type_ == WeightType::kQ8_0 || plane == 2) return Fill::kScales;
    if (type_ == WeightType::kMXFP4) return Fill::kExponents;
    return type_ == WeightType::kQ4_K ? Fill::kBytes63 : Fill::kBytes;
  }
  WeightType type_;
  int64_t n_rows_, n_in_;
  WeightPlanes planes_;
  int64_t stride_;
  Array<uint8_t> data_;
  int copies_ = 1;
};

// Microseconds of one replay of a graph of what `enqueue` launches: the median of nine.
inline double replay_us(const std::function<void(cudaStream_t)>& enqueue) {
  cudaStream_t stream;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  enqueue(stream);  // attributes of functions are set outside captures
  check(cudaStreamSynchronize(stream), "first run");
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  enqueue(stream);
  check(cudaStreamEndCapture(stream, &graph), "end of capture");
  check(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  std::vector<float> times;
  for (int i = 0; i < 11; ++i) {
    check(cudaEventRecord(begin, stream), "record");
    check(cudaGraphLaunch(exec, stream), "launch");
    check(cudaEventRecord(end, stream), "record");
    check(cudaStreamSynchronize(stream), "replay");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "time");
    if (i >= 2) times.push_back(ms);
  }
  std::sort(times.begin(), times.end());
  (void)cudaGraphExecDestroy(exec);
  (void)cudaGraphDestroy(graph);
  (void)cudaEventDestroy(begin);
  (void)cudaEventDestroy(end);
  (void)cudaStreamDestroy(stream);
  return times[times.size() / 2] * 1e3;
}

// Largest difference, relative to the largest value expected; infinite when something is no number.
inline double distance(const std::vector<float>& actual, const std::vector<float>& expected) {
  double difference = 0, largest = 1e-30;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(actual[i])) return INFINITY;
    difference = std::max(difference, std::fabs(double{actual[i]} - expected[i]));
    largest = std::max(largest, std::fabs(double{expected[i]}));
  }
  return difference / largest;
}

}  // namespace ds4::cuda::bench
