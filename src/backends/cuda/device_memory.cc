#include "backends/cuda/device_memory.h"

#include <algorithm>
#include <utility>

namespace ds4::cuda {

Error device_error(cudaError_t error, std::string_view what) {
  const ErrorCode code = error == cudaErrorMemoryAllocation ? ErrorCode::kOutOfMemory : ErrorCode::kInternal;
  return make_error(code, "{}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

Result<std::unique_ptr<DeviceBuffer>> DeviceBuffer::allocate_unset(uint64_t size_bytes) {
  const uint64_t allocated = std::max<uint64_t>(size_bytes, 1);
  void* data = nullptr;
  if (const cudaError_t error = cudaMalloc(&data, allocated); error != cudaSuccess) {
    (void)cudaGetLastError();
    size_t n_free = 0, n_total = 0;
    (void)cudaMemGetInfo(&n_free, &n_total);
    return device_error(error,
                        fmt::format("{} bytes of device memory ({} of {} are free)", allocated, n_free, n_total));
  }
  return std::unique_ptr<DeviceBuffer>(new DeviceBuffer(static_cast<std::byte*>(data), allocated));
}

Result<std::unique_ptr<DeviceBuffer>> DeviceBuffer::allocate(uint64_t size_bytes) {
  std::unique_ptr<DeviceBuffer> buffer = TRY(allocate_unset(size_bytes));
  cudaError_t error = cudaMemset(buffer->device_data(), 0, buffer->size_bytes());
  // Streams of backends do not wait for the one that clears.
  if (error == cudaSuccess) error = cudaStreamSynchronize(nullptr);
  if (error != cudaSuccess) return device_error(error, "clearing device memory");
  return buffer;
}

std::unique_ptr<DeviceBuffer> DeviceBuffer::of_pages(std::unique_ptr<PagedMemory> pages) {
  std::unique_ptr<DeviceBuffer> buffer(new DeviceBuffer(pages->device_data(), pages->size_bytes()));
  buffer->pages_ = std::move(pages);
  return buffer;
}

DeviceBuffer::~DeviceBuffer() {
  if (pages_ == nullptr) (void)cudaFree(data_);
}

Result<std::unique_ptr<PinnedBuffer>> PinnedBuffer::allocate(uint64_t size_bytes) {
  const uint64_t allocated = std::max<uint64_t>(size_bytes, 1);
  void* data = nullptr;
  if (const cudaError_t error = cudaMallocHost(&data, allocated); error != cudaSuccess) {
    (void)cudaGetLastError();
    return device_error(error, fmt::format("{} bytes of pinned memory", allocated));
  }
  return std::unique_ptr<PinnedBuffer>(new PinnedBuffer(static_cast<std::byte*>(data), allocated));
}

PinnedBuffer::~PinnedBuffer() { (void)cudaFreeHost(data_); }

Result<void> DeviceStatus::take() {
  if (!failure_) return {};
  return *std::exchange(failure_, std::nullopt);
}

std::byte* Scratch::get(uint64_t size_bytes, DeviceStatus& status) {
  if (buffer_ != nullptr && buffer_->size_bytes() >= size_bytes) return buffer_->device_data();
  if (buffer_ != nullptr) status.note_move();
  buffer_.reset();
  Result<std::unique_ptr<DeviceBuffer>> grown = DeviceBuffer::allocate(size_bytes);
  if (!grown.ok()) {
    status.note(cudaErrorMemoryAllocation, grown.error().message);
    return nullptr;
  }
  buffer_ = grown.take_value();
  return buffer_->device_data();
}

}  // namespace ds4::cuda
