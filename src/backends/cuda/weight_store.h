#pragma once

// The weights on a device. A weight arrives byte by byte as in the file, in memory that begin_raw() names, and becomes
// what ops read in keep_raw(): between the two stands whatever a kernel has to rearrange. Files are read by several
// threads into pinned memory (backends/weight_loader.h); what a file's generator makes is made on the device. One
// thread.

#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "backends/backend.h"
#include "backends/cuda/device_memory.h"
#include "backends/cuda/expert_paging.h"
#include "gguf/weight_source.h"

namespace ds4::cuda {

class WeightStore {
 public:
  explicit WeightStore(cudaStream_t stream) : stream_(stream) {}

  // Experts beyond so many bytes stay in the machine's memory. Before place().
  void keep_experts_within(uint64_t card_bytes) { expert_card_bytes_ = card_bytes; }
  // Null when all experts are on the card.
  ExpertPaging* paging() const { return paging_.get(); }

  // The seam for other layouts in memory. Where the bytes of that tensor, as in the file, are to be put, in the order
  // of the stream; the next begin_raw() may name the same memory.
  Result<std::byte*> begin_raw(const TensorView& host);
  // They are on their way there: the weight as ops see it, in the order of the stream.
  Result<TensorView> keep_raw(const TensorView& host, std::string_view name = {});

  Result<std::vector<TensorView>> place(const GgufFile& file, std::span<const WeightToPlace> weights,
                                        const WeightProgress& progress);

 private:
  Result<TensorView> make(const PooledRuns& runs, const WeightToPlace& weight);
  Result<std::unique_ptr<DeviceBuffer>> planes_memory(const TensorView& host, std::string_view name);
  Result<const uint8_t*> pool_on_device(std::span<const std::byte> pool);

  cudaStream_t stream_;
  std::optional<uint64_t> expert_card_bytes_;
  std::unique_ptr<ExpertPaging> paging_;
  std::unique_ptr<DeviceBuffer> area_;      // the bytes of the file of a matrix in planes
  std::unique_ptr<DeviceBuffer> arriving_;  // where the weight that is arriving stays
  std::vector<std::unique_ptr<DeviceBuffer>> weights_;
  std::map<const std::byte*, std::unique_ptr<DeviceBuffer>> pools_;  // while place() runs
};

}  // namespace ds4::cuda
