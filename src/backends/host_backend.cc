#include "backends/host_backend.h"

#include <sys/mman.h>

#include <cstring>

#include "backends/capabilities.h"
#include "base/cpu_topology.h"
#include "ops/reference_ops.h"

namespace ds4 {

namespace {

// Anonymous pages: zeroed, page aligned, and not backed by memory until touched.
class HostBuffer final : public Buffer {
 public:
  static Result<std::unique_ptr<Buffer>> allocate(uint64_t size_bytes) {
    const uint64_t mapped_bytes = size_bytes == 0 ? 1 : size_bytes;
    void* address =
        mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED)
      return make_error(ErrorCode::kOutOfMemory, "cannot allocate {} bytes of memory", size_bytes);
    auto buffer = std::make_unique<HostBuffer>(static_cast<std::byte*>(address), mapped_bytes);
    // All threads read KV rows and activations.
    const std::vector<int> nodes = memory_nodes();
    if (nodes.size() > 1) interleave_memory({buffer->data_, mapped_bytes}, nodes);
    return std::unique_ptr<Buffer>(std::move(buffer));
  }
  HostBuffer(std::byte* data, uint64_t size_bytes) : data_(data), size_bytes_(size_bytes) {}
  ~HostBuffer() override { munmap(data_, size_bytes_); }
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;
  std::byte* host_data() const override { return data_; }
  uint64_t size_bytes() const override { return size_bytes_; }

 private:
  std::byte* data_;
  uint64_t size_bytes_;
};

}  // namespace

bool HostBackend::supports(WeightUse use, DType type) const { return cpu_weight_support().supports(use, type); }

Result<std::unique_ptr<Buffer>> allocate_host_memory(uint64_t size_bytes) { return HostBuffer::allocate(size_bytes); }

Result<std::unique_ptr<Buffer>> HostBackend::allocate(uint64_t size_bytes) { return HostBuffer::allocate(size_bytes); }

void HostBackend::upload(std::span<const std::byte> bytes, const TensorView& destination) {
  CHECK(bytes.size() == destination.size_bytes(), "{} bytes for {}", bytes.size(), destination.size_bytes());
  if (!bytes.empty()) std::memcpy(destination.data<std::byte>(), bytes.data(), bytes.size());
}

void HostBackend::download(const TensorView& source, std::span<std::byte> bytes) {
  CHECK(bytes.size() == source.size_bytes(), "{} bytes from {}", bytes.size(), source.size_bytes());
  if (!bytes.empty()) std::memcpy(bytes.data(), source.data<std::byte>(), bytes.size());
}

void HostBackend::copy(const TensorView& source, const TensorView& destination) {
  CHECK(source.size_bytes() == destination.size_bytes(), "{} bytes to {}", source.size_bytes(),
        destination.size_bytes());
  std::memcpy(destination.data<std::byte>(), source.data<std::byte>(), source.size_bytes());
}

std::unique_ptr<Backend> make_reference_backend(ReferenceReal real, NumericProfile profile) {
  if (real == ReferenceReal::kDouble) {
    return std::make_unique<HostBackend>("reference", profile, std::make_unique<ReferenceOps<double>>(profile));
  }
  return std::make_unique<HostBackend>("reference-float", profile, std::make_unique<ReferenceOps<float>>(profile));
}

}  // namespace ds4
