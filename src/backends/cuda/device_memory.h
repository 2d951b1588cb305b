#pragma once

// Memory of a CUDA device and the first error of what was enqueued there. Used by one thread.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "backends/cuda/paged_memory.h"
#include "base/error.h"
#include "base/tensor.h"

namespace ds4::cuda {

// "what: the runtime's words". Out of memory keeps its code.
Error device_error(cudaError_t error, std::string_view what);

// Not reachable by the CPU.
class DeviceBuffer final : public Buffer {
 public:
  // Zeroes.
  static Result<std::unique_ptr<DeviceBuffer>> allocate(uint64_t size_bytes);
  // Whatever was there: for those who write all of it.
  static Result<std::unique_ptr<DeviceBuffer>> allocate_unset(uint64_t size_bytes);
  // Memory whose pages may lie in the machine.
  static std::unique_ptr<DeviceBuffer> of_pages(std::unique_ptr<PagedMemory> pages);
  ~DeviceBuffer() override;
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  std::byte* host_data() const override { return nullptr; }
  uint64_t size_bytes() const override { return size_bytes_; }
  std::byte* device_data() const { return data_; }
  // Null for memory that is all on the card.
  PagedMemory* pages() const { return pages_.get(); }

 private:
  DeviceBuffer(std::byte* data, uint64_t size_bytes) : data_(data), size_bytes_(size_bytes) {}
  std::byte* data_;
  uint64_t size_bytes_;
  std::unique_ptr<PagedMemory> pages_;
};

// The process's own, pinned, so that copies from and to the device run at the bus's speed.
class PinnedBuffer final : public Buffer {
 public:
  static Result<std::unique_ptr<PinnedBuffer>> allocate(uint64_t size_bytes);
  ~PinnedBuffer() override;
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  std::byte* host_data() const override { return data_; }
  uint64_t size_bytes() const override { return size_bytes_; }

 private:
  PinnedBuffer(std::byte* data, uint64_t size_bytes) : data_(data), size_bytes_(size_bytes) {}
  std::byte* data_;
  uint64_t size_bytes_;
};

// Device address of a view's first element; null for an empty view. Precondition: a view of a DeviceBuffer.
template <class T>
T* device_data(const TensorView& view) {
  if (!view) return nullptr;
  return reinterpret_cast<T*>(static_cast<const DeviceBuffer*>(view.buffer)->device_data() + view.offset_bytes);
}

// What happened to the work of a stream so far.
class DeviceStatus {
 public:
  // Keeps the first failure.
  void note(cudaError_t error, std::string_view what) {
    if (error != cudaSuccess && !failure_) failure_ = device_error(error, what);
  }
  void note(const Error& failure) {
    if (!failure_) failure_ = failure;
  }
  // Keeps it until the next call.
  Result<void> take();

  // How often scratch that was in use got another address.
  uint64_t n_moves() const { return n_moves_; }
  void note_move() { n_moves_ += 1; }

 private:
  uint64_t n_moves_ = 0;
  std::optional<Error> failure_;
};

// Device memory that grows to the largest need. The work that used the smaller one has ended when it grows.
class Scratch {
 public:
  // Null, with the reason noted, when there is no memory.
  std::byte* get(uint64_t size_bytes, DeviceStatus& status);
  template <class T>
  T* get(int64_t n, DeviceStatus& status) {
    return reinterpret_cast<T*>(get(static_cast<uint64_t>(n) * sizeof(T), status));
  }

 private:
  std::unique_ptr<DeviceBuffer> buffer_;
};

}  // namespace ds4::cuda
