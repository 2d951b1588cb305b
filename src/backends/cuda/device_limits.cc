#include "backends/cuda/device_limits.h"

#include <algorithm>
#include <array>
#include <functional>

#include "backends/cuda/device_memory.h"
#include "backends/cuda/kernels/limits.h"

namespace ds4 {
namespace cuda {
namespace {

constexpr uint64_t kReadBytes = uint64_t{2} << 30;  // many times the caches
constexpr int kPasses = 5;
constexpr float kPassMs = 20;

// A stream with two events to time it by.
class Timer {
 public:
  static Result<std::unique_ptr<Timer>> create() {
    std::unique_ptr<Timer> timer(new Timer());
    cudaError_t error = cudaStreamCreateWithFlags(&timer->stream_, cudaStreamNonBlocking);
    if (error == cudaSuccess) error = cudaEventCreate(&timer->begin_);
    if (error == cudaSuccess) error = cudaEventCreate(&timer->end_);
    if (error != cudaSuccess) return device_error(error, "a stream");
    return timer;
  }
  ~Timer() {
    if (begin_ != nullptr) (void)cudaEventDestroy(begin_);
    if (end_ != nullptr) (void)cudaEventDestroy(end_);
    if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  Result<float> ms(const std::function<cudaError_t(cudaStream_t)>& launch) {
    float time = 0;
    cudaError_t error = cudaEventRecord(begin_, stream_);
    if (error == cudaSuccess) error = launch(stream_);
    if (error == cudaSuccess) error = cudaEventRecord(end_, stream_);
    if (error == cudaSuccess) error = cudaEventSynchronize(end_);
    if (error == cudaSuccess) error = cudaEventElapsedTime(&time, begin_, end_);
    if (error != cudaSuccess) return device_error(error, "measuring the device");
    return std::max(time, 1e-4F);
  }

 private:
  Timer() = default;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

Result<double> measure_read(Timer& timer, int n_multiprocessors, uint32_t* sink) {
  const std::unique_ptr<DeviceBuffer> data = TRY(DeviceBuffer::allocate(kReadBytes));
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const float ms = TRY(timer.ms([&](cudaStream_t stream) {
      return read_stream(reinterpret_cast<const uint8_t*>(data->device_data()), kReadBytes, sink, n_multiprocessors,
                         stream);
    }));
    best = std::max(best, static_cast<double>(kReadBytes) / (double{ms} * 1e-3));
  }
  return best;
}

Result<double> measure_loop(Timer& timer, MatrixLoop loop, const cudaDeviceProp& device, uint32_t* sink) {
  int rounds = 1024;
  double best = 0;
  for (int pass = 0; pass < kPasses;) {
    const float ms = TRY(timer.ms(
        [&](cudaStream_t stream) { return matrix_loop(loop, rounds, sink, device.multiProcessorCount, stream); }));
    if (ms < kPassMs && rounds < (1 << 24)) {
      rounds *= 2;
      continue;
    }
    const auto macs = static_cast<double>(matrix_loop_macs(loop, device.multiProcessorCount, device.major, rounds));
    best = std::max(best, macs / (double{ms} * 1e-3));
    ++pass;
  }
  return best;
}

}  // namespace
}  // namespace cuda

Result<DeviceLimits> measure_device_limits() {
  struct Loop {
    cuda::MatrixLoop loop;
    const char* kind;
    const char* isa;
  };
  constexpr std::array<Loop, 4> kLoops{{{cuda::MatrixLoop::kInt8Wgmma, "int8", "wgmma"},
                                        {cuda::MatrixLoop::kBf16Wgmma, "bf16", "wgmma"},
                                        {cuda::MatrixLoop::kInt8Mma, "int8", "mma"},
                                        {cuda::MatrixLoop::kBf16Mma, "bf16", "mma"}}};
  int number = 0;
  cudaDeviceProp device{};
  cudaError_t error = cudaGetDevice(&number);
  if (error == cudaSuccess) error = cudaGetDeviceProperties(&device, number);
  if (error != cudaSuccess) return cuda::device_error(error, "reading the device's properties");
  const std::unique_ptr<cuda::Timer> timer = TRY(cuda::Timer::create());
  const std::unique_ptr<cuda::DeviceBuffer> memory = TRY(cuda::DeviceBuffer::allocate(sizeof(uint32_t)));
  auto* sink = reinterpret_cast<uint32_t*>(memory->device_data());
  DeviceLimits limits{.name = device.name,
                      .n_multiprocessors = device.multiProcessorCount,
                      .read_bytes_per_s = TRY(cuda::measure_read(*timer, device.multiProcessorCount, sink)),
                      .rates = {}};
  for (const Loop& loop : kLoops) {
    if (cuda::matrix_loop_macs(loop.loop, 1, device.major, 1) == 0) continue;
    limits.rates.push_back({loop.kind, loop.isa, TRY(cuda::measure_loop(*timer, loop.loop, device, sink))});
  }
  return limits;
}

}  // namespace ds4
