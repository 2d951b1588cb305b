#pragma once

// A place where the model runs: memory, weight placement and the op interface. The engine owns one and calls
// it from one thread. Device errors never surface in ops; finish() reports the first one since the last call.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"
#include "gguf/reader.h"
#include "ops/ops.h"

namespace ds4 {

// Two steps with equal keys call the same ops with the same views, whatever tokens, positions and slots they are for.
struct StepKey {
  const void* owner = nullptr;  // whose views they are
  int32_t n_rows = 0;
  int32_t n_wanted = 0;
  bool steers_attn = false, steers_ffn = false;
  bool operator==(const StepKey&) const = default;
};

// A tensor of a file under the shape that ops see.
struct WeightToPlace {
  const TensorInfo* tensor = nullptr;
  TensorView host;  // in the file's memory; not to be read where the file's generator makes the tensor
};

// Bytes that are where they belong, and all of them.
using WeightProgress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

struct PlacedWeights {
  std::vector<TensorView> views;                 // as given
  std::vector<std::unique_ptr<Buffer>> buffers;  // what the backend does not own itself
};

// Of a device.
struct DeviceMemory {
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;
  virtual NumericProfile profile() const = 0;

  // Whether a weight of that type can be used so. Asked for every tensor before any byte is placed.
  virtual bool supports(WeightUse use, DType type) const = 0;

  // Zeroed memory the backend's ops can reach; owned by the caller, who drops it before the backend.
  virtual Result<std::unique_ptr<Buffer>> allocate(uint64_t size_bytes) = 0;

  // Memory of the process that download() fills fastest.
  virtual Result<std::unique_ptr<Buffer>> allocate_host(uint64_t size_bytes) = 0;

  // A weight, seen through the backend's memory. `host` (a file mapping) must outlive the backend's use of it:
  // the CPU returns it unchanged, a device copies it.
  virtual Result<TensorView> place_weight(const TensorView& host) = 0;
  // All weights of a model at once, which a device can bring in faster; `progress` may be empty. Tensors that the
  // file's generator makes are made here.
  virtual Result<PlacedWeights> place_weights(const GgufFile& file, std::span<const WeightToPlace> weights,
                                              const WeightProgress& progress);
  // What a weight will take of the backend's own memory; 0 where it stays in the file's mapping.
  virtual uint64_t placed_bytes(DType type, uint64_t file_bytes) const {
    (void)type;
    (void)file_bytes;
    return 0;
  }
  // Routed experts beyond so many bytes are to stay in the machine's memory; before weights are placed. false: this
  // backend cannot.
  virtual bool keep_experts_within(uint64_t device_bytes) {
    (void)device_bytes;
    return false;
  }
  // Nothing: the machine's memory.
  virtual std::optional<DeviceMemory> device_memory() const { return std::nullopt; }

  // Host <-> backend memory, in order with enqueued ops.
  virtual void upload(std::span<const std::byte> bytes, const TensorView& destination) = 0;
  virtual void download(const TensorView& source, std::span<std::byte> bytes) = 0;
  // Memory of equal size to memory, without overlap.
  virtual void copy(const TensorView& source, const TensorView& destination) = 0;

  virtual Ops& ops() = 0;

  // A step over `batch`: calls `enqueue`, which calls ops and nothing else. Where a step with the same key came before,
  // a backend may enqueue what it recorded then instead. What a step reads must be uploaded before.
  virtual void run_step(const StepKey& key, const BatchView& batch, const std::function<void()>& enqueue) {
    (void)key;
    (void)batch;
    enqueue();
  }
  // The owner's views end; nothing recorded for it may run again.
  virtual void forget_steps(const void* owner) { (void)owner; }
  // Kernels and copies of the last step that ran from a record; 0: none did.
  virtual size_t n_recorded_nodes() const { return 0; }

  // Waits for everything enqueued. Error: the first device failure.
  virtual Result<void> finish() = 0;
};

}  // namespace ds4
