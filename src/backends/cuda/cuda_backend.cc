#include "backends/cuda/cuda_backend.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "backends/capabilities.h"
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/device_memory.h"
#include "backends/cuda/step_graphs.h"
#include "backends/cuda/weight_store.h"

namespace ds4 {
namespace cuda {
namespace {

constexpr int kLeastMajor = 8;
constexpr uint64_t kStagingBytes = 16U << 20;
// Steps of more sequences spend little on launches.
constexpr int32_t kMaxRecordedRows = 64;

// Two pinned buffers: one is filled while the other is copied.
class Staging {
 public:
  static Result<std::unique_ptr<Staging>> create() {
    std::unique_ptr<Staging> staging(new Staging());
    for (Part& part : staging->parts_) {
      if (const cudaError_t error = cudaMallocHost(&part.data, kStagingBytes); error != cudaSuccess)
        return device_error(error, "pinned memory");
      if (const cudaError_t error = cudaEventCreateWithFlags(&part.copied, cudaEventDisableTiming);
          error != cudaSuccess)
        return device_error(error, "an event");
    }
    return staging;
  }
  ~Staging() {
    for (const Part& part : parts_) {
      if (part.copied != nullptr) (void)cudaEventDestroy(part.copied);
      if (part.data != nullptr) (void)cudaFreeHost(part.data);
    }
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  cudaError_t copy(const std::byte* source, std::byte* destination, uint64_t n, cudaStream_t stream) {
    for (uint64_t first = 0; first < n; first += kStagingBytes) {
      Part& part = parts_[next_];
      next_ = 1 - next_;
      const uint64_t n_part = std::min(kStagingBytes, n - first);
      if (const cudaError_t error = cudaEventSynchronize(part.copied); error != cudaSuccess) return error;
      std::memcpy(part.data, source + first, n_part);
      if (const cudaError_t error =
              cudaMemcpyAsync(destination + first, part.data, n_part, cudaMemcpyHostToDevice, stream);
          error != cudaSuccess)
        return error;
      if (const cudaError_t error = cudaEventRecord(part.copied, stream); error != cudaSuccess) return error;
    }
    return cudaSuccess;
  }

 private:
  Staging() = default;
  struct Part {
    void* data = nullptr;
    cudaEvent_t copied = nullptr;
  };
  std::array<Part, 2> parts_;
  size_t next_ = 0;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend(cudaStream_t stream, std::unique_ptr<Staging> staging, NumericProfile profile)
      : stream_(stream),
        staging_(std::move(staging)),
        profile_(profile),
        weights_(stream),
        ops_(stream, status_, profile),
        graphs_(stream, status_) {}
  ~CudaBackend() override {
    (void)cudaStreamSynchronize(stream_);
    (void)cudaStreamDestroy(stream_);
  }

  std::string_view name() const override { return "cuda"; }
  NumericProfile profile() const override { return profile_; }

  bool supports(WeightUse use, DType type) const override { return cuda_weight_support().supports(use, type); }

  Result<std::unique_ptr<Buffer>> allocate(uint64_t size_bytes) override {
    return std::unique_ptr<Buffer>(TRY(DeviceBuffer::allocate(size_bytes)));
  }

  Result<std::unique_ptr<Buffer>> allocate_host(uint64_t size_bytes) override {
    return std::unique_ptr<Buffer>(TRY(PinnedBuffer::allocate(size_bytes)));
  }

  Result<TensorView> place_weight(const TensorView& host) override {
    std::byte* raw = TRY(weights_.begin_raw(host));
    const cudaError_t error = staging_->copy(host.data<const std::byte>(), raw, host.size_bytes(), stream_);
    if (error != cudaSuccess) return device_error(error, "copying a weight to the device");
    return weights_.keep_raw(host);
  }

  Result<PlacedWeights> place_weights(const GgufFile& file, std::span<const WeightToPlace> weights,
                                      const WeightProgress& progress) override {
    PlacedWeights placed{.views = TRY(weights_.place(file, weights, progress)), .buffers = {}};
    ops_.use_paging(weights_.paging());
    return placed;
  }

  uint64_t placed_bytes(DType type, uint64_t file_bytes) const override { return cuda_weight_bytes(type, file_bytes); }

  bool keep_experts_within(uint64_t device_bytes) override {
    if (!PagedMemory::is_supported()) return false;
    weights_.keep_experts_within(device_bytes);
    return true;
  }

  std::optional<DeviceMemory> device_memory() const override {
    size_t n_free = 0, n_total = 0;
    if (cudaMemGetInfo(&n_free, &n_total) != cudaSuccess) return std::nullopt;
    return DeviceMemory{.free_bytes = n_free, .total_bytes = n_total};
  }

  void upload(std::span<const std::byte> bytes, const TensorView& destination) override {
    CHECK(bytes.size() == destination.size_bytes(), "{} bytes for {}", bytes.size(), destination.size_bytes());
    if (bytes.empty()) return;
    status_.note(cudaMemcpyAsync(device_data<std::byte>(destination), bytes.data(), bytes.size(),
                                 cudaMemcpyHostToDevice, stream_),
                 "upload");
  }

  void download(const TensorView& source, std::span<std::byte> bytes) override {
    CHECK(bytes.size() == source.size_bytes(), "{} bytes from {}", bytes.size(), source.size_bytes());
    if (bytes.empty()) return;
    status_.note(
        cudaMemcpyAsync(bytes.data(), device_data<std::byte>(source), bytes.size(), cudaMemcpyDeviceToHost, stream_),
        "download");
    status_.note(cudaStreamSynchronize(stream_), "download");
  }

  void copy(const TensorView& source, const TensorView& destination) override {
    CHECK(source.size_bytes() == destination.size_bytes(), "{} bytes to {}", source.size_bytes(),
          destination.size_bytes());
    status_.note(cudaMemcpyAsync(device_data<std::byte>(destination), device_data<std::byte>(source),
                                 source.size_bytes(), cudaMemcpyDeviceToDevice, stream_),
                 "copy");
  }

  Ops& ops() override { return ops_; }

  void run_step(const StepKey& key, const BatchView& batch, const std::function<void()>& enqueue) override {
    if (weights_.paging() != nullptr) {
      if (const Result<void> moved = weights_.paging()->between_steps(stream_); !moved.ok())
        status_.note(moved.error());
    }
    ops_.place_rows(batch);
    const bool is_decode = std::ranges::all_of(batch.spans, [](const SequenceSpan& span) { return span.n_rows == 1; });
    if (!is_decode || batch.n_rows > kMaxRecordedRows) return enqueue();
    graphs_.run({.step = key, .position_bound = position_bound(batch)}, enqueue);
  }
  void forget_steps(const void* owner) override {
    (void)cudaStreamSynchronize(stream_);
    graphs_.forget(owner);
  }

  size_t n_recorded_nodes() const override { return graphs_.n_nodes(); }

  Result<void> finish() override {
    status_.note(cudaStreamSynchronize(stream_), "the device");
    return status_.take();
  }

 private:
  cudaStream_t stream_;
  std::unique_ptr<Staging> staging_;
  NumericProfile profile_;
  DeviceStatus status_;
  WeightStore weights_;
  CudaOps ops_;
  StepGraphs graphs_;
};

}  // namespace
}  // namespace cuda

Result<std::unique_ptr<Backend>> make_cuda_backend(const CudaBackendOptions& options) {
  int n_devices = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&n_devices); error != cudaSuccess || n_devices == 0) {
    return make_error(ErrorCode::kUnsupported, "no CUDA device: {}",
                      error != cudaSuccess ? cudaGetErrorString(error) : "none is installed");
  }
  if (options.device < 0 || options.device >= n_devices) {
    return make_error(ErrorCode::kUnsupported, "CUDA device {}: expected 0 to {}", options.device, n_devices - 1);
  }
  cudaDeviceProp properties{};
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, options.device); error != cudaSuccess)
    return cuda::device_error(error, "reading the device's properties");
  if (properties.major < cuda::kLeastMajor) {
    return make_error(ErrorCode::kUnsupported,
                      "CUDA device {} ({}) has compute capability {}.{}, at least {}.0 is needed", options.device,
                      properties.name, properties.major, properties.minor, cuda::kLeastMajor);
  }
  if (const cudaError_t error = cudaSetDevice(options.device); error != cudaSuccess)
    return cuda::device_error(error, "choosing the device");
  cudaStream_t stream = nullptr;
  if (const cudaError_t error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking); error != cudaSuccess)
    return cuda::device_error(error, "a stream");
  std::unique_ptr<cuda::Staging> staging = TRY(cuda::Staging::create());
  return std::unique_ptr<Backend>(std::make_unique<cuda::CudaBackend>(stream, std::move(staging), options.profile));
}

}  // namespace ds4
