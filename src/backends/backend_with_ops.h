#pragma once

// Another backend's memory under other ops (ops/forwarding_ops.h): a second ForwardPass over it watches steps on the
// same model and KV memory. One thread.

#include "backends/backend.h"

namespace ds4 {

class BackendWithOps final : public Backend {
 public:
  // Both must outlive this object.
  BackendWithOps(Backend& backend, Ops& ops) : backend_(backend), ops_(ops) {}

  std::string_view name() const override { return backend_.name(); }
  NumericProfile profile() const override { return backend_.profile(); }
  bool supports(WeightUse use, DType type) const override { return backend_.supports(use, type); }
  Result<std::unique_ptr<Buffer>> allocate(uint64_t size_bytes) override { return backend_.allocate(size_bytes); }
  Result<std::unique_ptr<Buffer>> allocate_host(uint64_t size_bytes) override {
    return backend_.allocate_host(size_bytes);
  }
  Result<TensorView> place_weight(const TensorView& host) override { return backend_.place_weight(host); }
  Result<PlacedWeights> place_weights(const GgufFile& file, std::span<const WeightToPlace> weights,
                                      const WeightProgress& progress) override {
    return backend_.place_weights(file, weights, progress);
  }
  uint64_t placed_bytes(DType type, uint64_t file_bytes) const override {
    return backend_.placed_bytes(type, file_bytes);
  }
  std::optional<DeviceMemory> device_memory() const override { return backend_.device_memory(); }
  void upload(std::span<const std::byte> bytes, const TensorView& destination) override {
    backend_.upload(bytes, destination);
  }
  void download(const TensorView& source, std::span<std::byte> bytes) override { backend_.download(source, bytes); }
  void copy(const TensorView& source, const TensorView& destination) override { backend_.copy(source, destination); }
  Ops& ops() override { return ops_; }
  Result<void> finish() override { return backend_.finish(); }

 private:
  Backend& backend_;
  Ops& ops_;
};

}  // namespace ds4
