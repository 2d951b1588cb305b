#pragma once

// A place where the model runs: memory, weight placement and the op interface. The engine owns one and calls
// it from one thread. Device errors never surface in ops; finish() reports the first one since the last call.

#include <memory>
#include <string_view>

#include "base/error.h"
#include "base/tensor.h"
#include "ops/ops.h"

namespace ds4 {

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;
  virtual NumericProfile profile() const = 0;

  // Whether a weight of that type can be used so. Asked for every tensor before any byte is placed.
  virtual bool supports(WeightUse use, DType type) const = 0;

  // Zeroed memory the backend's ops can reach; owned by the caller, who drops it before the backend.
  virtual Result<std::unique_ptr<Buffer>> allocate(uint64_t size_bytes) = 0;

  // A weight, seen through the backend's memory. `host` (a file mapping) must outlive the backend's use of it:
  // the CPU returns it unchanged, a device copies it.
  virtual Result<TensorView> place_weight(const TensorView& host) = 0;

  // Host <-> backend memory, in order with enqueued ops.
  virtual void upload(std::span<const std::byte> bytes, const TensorView& destination) = 0;
  virtual void download(const TensorView& source, std::span<std::byte> bytes) = 0;
  // Memory of equal size to memory, without overlap.
  virtual void copy(const TensorView& source, const TensorView& destination) = 0;

  virtual Ops& ops() = 0;

  // Waits for everything enqueued. Error: the first device failure.
  virtual Result<void> finish() = 0;
};

}  // namespace ds4
