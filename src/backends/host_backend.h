#pragma once

// A backend whose memory is the process's own: ops run at once, so nothing is ever enqueued and finish() has nothing
// to wait for. The CPU backend and the reference oracle are this class around different Ops.

#include <memory>
#include <string>

#include "backends/backend.h"

namespace ds4 {

class HostBackend : public Backend {
 public:
  HostBackend(std::string name, NumericProfile profile, std::unique_ptr<Ops> ops)
      : name_(std::move(name)), profile_(profile), ops_(std::move(ops)) {}

  std::string_view name() const override { return name_; }
  NumericProfile profile() const override { return profile_; }
  bool supports(WeightUse use, DType type) const override;
  Result<std::unique_ptr<Buffer>> allocate(uint64_t size_bytes) override;
  Result<std::unique_ptr<Buffer>> allocate_host(uint64_t size_bytes) override { return allocate(size_bytes); }
  Result<TensorView> place_weight(const TensorView& host) override { return host; }
  void upload(std::span<const std::byte> bytes, const TensorView& destination) override;
  void download(const TensorView& source, std::span<std::byte> bytes) override;
  void copy(const TensorView& source, const TensorView& destination) override;
  Ops& ops() override { return *ops_; }
  Result<void> finish() override { return {}; }

 private:
  std::string name_;
  NumericProfile profile_;
  std::unique_ptr<Ops> ops_;
};

// Zeroed pages that take no memory until they are touched.
Result<std::unique_ptr<Buffer>> allocate_host_memory(uint64_t size_bytes);

enum class ReferenceReal : uint8_t { kFloat, kDouble };

// The oracle as a backend: slow, for tests and `--check` tools.
std::unique_ptr<Backend> make_reference_backend(ReferenceReal real, NumericProfile profile);

}  // namespace ds4
