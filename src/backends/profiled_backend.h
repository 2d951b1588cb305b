#pragma once

// A backend that shares another's memory and times its ops (ops/profile_ops.h): a second ForwardPass over it profiles
// steps of the same model and KV memory. Costs nothing while it is not used. One thread.

#include "backends/backend.h"
#include "ops/profile_ops.h"

namespace ds4 {

class ProfiledBackend final : public Backend {
 public:
  // Both must outlive this object.
  ProfiledBackend(Backend& backend, const Clock& clock) : backend_(backend), ops_(backend.ops(), clock) {}

  std::string_view name() const override { return backend_.name(); }
  NumericProfile profile() const override { return backend_.profile(); }
  bool supports(WeightUse use, DType type) const override { return backend_.supports(use, type); }
  Result<std::unique_ptr<Buffer>> allocate(uint64_t size_bytes) override { return backend_.allocate(size_bytes); }
  Result<TensorView> place_weight(const TensorView& host) override { return backend_.place_weight(host); }
  void upload(std::span<const std::byte> bytes, const TensorView& destination) override {
    backend_.upload(bytes, destination);
  }
  void download(const TensorView& source, std::span<std::byte> bytes) override { backend_.download(source, bytes); }
  void copy(const TensorView& source, const TensorView& destination) override { backend_.copy(source, destination); }
  ProfileOps& ops() override { return ops_; }
  Result<void> finish() override { return backend_.finish(); }

 private:
  Backend& backend_;
  ProfileOps ops_;
};

}  // namespace ds4
