#pragma once

// Routed experts of a model that is larger than the card. Of every expert tensor the first plane (75 % of its bytes and
// more, whole pages per expert) lies in paged memory: the experts picked most lately on the card, the others in the
// machine's memory, where kernels read them over the bus. The kernels that route count picks on the device; between
// steps a few experts change places. Used by one thread.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "backends/backend.h"
#include "backends/cuda/device_memory.h"
#include "backends/cuda/hot_experts.h"
#include "backends/cuda/paged_memory.h"

namespace ds4::cuda {

// How the experts of a model are shared out, decided before any is placed.
struct ExpertPlacement {
  int32_t n_layers = 0;
  int32_t n_experts = 0;
  int32_t n_on_card = 0;  // of every layer
  uint64_t card_bytes = 0;
  uint64_t machine_bytes = 0;
};

struct ExpertPlanes {
  uint64_t size_bytes = 0;    // of all planes of the tensor
  uint64_t expert_bytes = 0;  // of one expert in the first plane
};
// Of a tensor [E, rows, columns]; zeros when it is not laid out in planes.
ExpertPlanes expert_planes(const TensorView& host);

// As many experts of every layer on the card as card_bytes allow. Error: kUnsupported when an expert's first plane is
// not whole pages, kOutOfMemory when not even the other planes fit.
Result<ExpertPlacement> place_experts(std::span<const WeightToPlace> weights, uint64_t card_bytes);

class ExpertPaging {
 public:
  // `experts` is what place_experts decided.
  static Result<std::unique_ptr<ExpertPaging>> create(const ExpertPlacement& experts);

  // Memory for the planes of an expert tensor of that layer.
  Result<std::unique_ptr<DeviceBuffer>> allocate(int32_t layer, const TensorView& host);
  // Counters [n_experts] on the device for the layer of that tensor.
  uint32_t* picks(const Buffer* expert_tensor) const;

  // Nothing is enqueued that reads experts. Looks at the picks once in a while and moves the experts that gain most.
  Result<void> between_steps(cudaStream_t stream);

  const HotExperts& experts() const { return hot_; }

 private:
  struct Tensor {
    int32_t layer = 0;
    DeviceBuffer* buffer = nullptr;
    size_t pages_per_expert = 0;
  };
  explicit ExpertPaging(const ExpertPlacement& experts)
      : placement_(experts), hot_(experts.n_layers, experts.n_experts, experts.n_on_card) {}

  ExpertPlacement placement_;
  HotExperts hot_;
  std::vector<Tensor> tensors_;
  std::unique_ptr<DeviceBuffer> picks_;
  std::unique_ptr<PinnedBuffer> host_picks_;
  std::unique_ptr<DeviceBuffer> spare_;
  int32_t n_steps_ = 0;
};

// The layer of "blk.N.ffn_{gate,up,down}_exps.weight"; nothing for other tensors.
std::optional<int32_t> expert_layer(std::string_view tensor_name);

}  // namespace ds4::cuda
