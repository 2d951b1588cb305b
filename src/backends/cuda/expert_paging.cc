#include "backends/cuda/expert_paging.h"

#include <algorithm>
#include <charconv>

#include "backends/cuda/device_weight.h"

namespace ds4::cuda {
namespace {

constexpr int32_t kStepsPerLook = 8;
// Two experts of 6 MiB move in about 5 ms; steps that wait for the bus take several times that.
constexpr size_t kSwapsPerLook = 2;

uint64_t whole_pages(uint64_t bytes) {
  return (bytes + PagedMemory::kPageBytes - 1) / PagedMemory::kPageBytes * PagedMemory::kPageBytes;
}

}  // namespace

std::optional<int32_t> expert_layer(std::string_view name) {
  constexpr std::string_view kBegin = "blk.";
  if (!name.starts_with(kBegin) || !name.ends_with("_exps.weight")) return std::nullopt;
  int32_t layer = 0;
  const char* end = name.data() + name.size();
  const auto [stop, failed] = std::from_chars(name.data() + kBegin.size(), end, layer);
  return failed == std::errc() && stop != end && *stop == '.' ? std::optional(layer) : std::nullopt;
}

Result<ExpertPlacement> place_experts(std::span<const WeightToPlace> weights, uint64_t card_bytes) {
  ExpertPlacement placement;
  uint64_t fixed_bytes = 0;       // planes that are always on the card
  uint64_t bytes_of_experts = 0;  // first planes of one expert of every layer
  for (const WeightToPlace& weight : weights) {
    const std::optional<int32_t> layer = expert_layer(weight.tensor->name);
    if (!layer) continue;
    const Shape& shape = weight.host.shape;
    const ExpertPlanes planes = expert_planes(weight.host);
    if (planes.expert_bytes == 0 || planes.expert_bytes % PagedMemory::kPageBytes != 0) {
      return make_error(
          ErrorCode::kUnsupported,
          "tensor {}: experts in the machine's memory need a whole number of {} byte pages each, found {} "
          "bytes",
          weight.tensor->name, PagedMemory::kPageBytes, planes.expert_bytes);
    }
    placement.n_layers = std::max(placement.n_layers, *layer + 1);
    placement.n_experts = static_cast<int32_t>(shape[0]);
    bytes_of_experts += planes.expert_bytes;
    fixed_bytes += whole_pages(planes.size_bytes) - static_cast<uint64_t>(shape[0]) * planes.expert_bytes;
  }
  if (fixed_bytes > card_bytes) {
    return make_error(ErrorCode::kOutOfMemory, "experts: {} bytes of the card are allowed, their scales alone need {}",
                      card_bytes, fixed_bytes);
  }
  if (bytes_of_experts == 0) return placement;
  placement.n_on_card = static_cast<int32_t>(
      std::min<uint64_t>((card_bytes - fixed_bytes) / bytes_of_experts, static_cast<uint64_t>(placement.n_experts)));
  const auto n_elsewhere = static_cast<uint64_t>(placement.n_experts - placement.n_on_card);
  placement.card_bytes = fixed_bytes + static_cast<uint64_t>(placement.n_on_card) * bytes_of_experts;
  placement.machine_bytes = n_elsewhere * bytes_of_experts;
  return placement;
}

ExpertPlanes expert_planes(const TensorView& host) {
  if (host.shape.rank() != 3 || !is_matrix_type(host.type)) return {};
  const WeightType type = weight_type(host.type);
  const int64_t n_in = host.shape.back();
  const int64_t n_rows = host.shape[0] * host.shape[1];
  if (!has_planes(type, n_in)) return {};
  const WeightPlanes planes = weight_planes(type, n_rows, n_in);
  return {static_cast<uint64_t>(planes.size_bytes), static_cast<uint64_t>(host.shape[1] * planes.row_bytes[0])};
}

Result<std::unique_ptr<ExpertPaging>> ExpertPaging::create(const ExpertPlacement& experts) {
  std::unique_ptr<ExpertPaging> paging(new ExpertPaging(experts));
  const uint64_t picks_bytes =
      static_cast<uint64_t>(experts.n_layers) * static_cast<uint64_t>(experts.n_experts) * sizeof(uint32_t);
  paging->picks_ = TRY(DeviceBuffer::allocate(picks_bytes));
  paging->host_picks_ = TRY(PinnedBuffer::allocate(picks_bytes));
  paging->spare_ = TRY(DeviceBuffer::allocate_unset(PagedMemory::kPageBytes));
  return paging;
}

Result<std::unique_ptr<DeviceBuffer>> ExpertPaging::allocate(int32_t layer, const TensorView& host) {
  const ExpertPlanes planes = expert_planes(host);
  const size_t pages_per_expert = planes.expert_bytes / PagedMemory::kPageBytes;
  std::vector<bool> on_card(whole_pages(planes.size_bytes) / PagedMemory::kPageBytes, true);
  for (int32_t expert = 0; expert < placement_.n_experts; ++expert) {
    const size_t first = static_cast<size_t>(expert) * pages_per_expert;
    for (size_t page = first; page < first + pages_per_expert; ++page) on_card[page] = hot_.is_on_card(layer, expert);
  }
  std::unique_ptr<DeviceBuffer> buffer = DeviceBuffer::of_pages(TRY(PagedMemory::create(on_card)));
  tensors_.push_back({layer, buffer.get(), pages_per_expert});
  return buffer;
}

uint32_t* ExpertPaging::picks(const Buffer* expert_tensor) const {
  const auto found = std::ranges::find(tensors_, expert_tensor, &Tensor::buffer);
  if (found == tensors_.end()) return nullptr;
  return reinterpret_cast<uint32_t*>(picks_->device_data()) + found->layer * placement_.n_experts;
}

Result<void> ExpertPaging::between_steps(cudaStream_t stream) {
  if (++n_steps_ % kStepsPerLook != 0) return {};
  const uint64_t bytes = picks_->size_bytes();
  cudaError_t error =
      cudaMemcpyAsync(host_picks_->host_data(), picks_->device_data(), bytes, cudaMemcpyDeviceToHost, stream);
  if (error == cudaSuccess) error = cudaMemsetAsync(picks_->device_data(), 0, bytes, stream);
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
  if (error != cudaSuccess) return device_error(error, "reading which experts were picked");
  hot_.count({reinterpret_cast<const uint32_t*>(host_picks_->host_data()), bytes / sizeof(uint32_t)});
  for (const HotExperts::Swap& swap : hot_.take_swaps(kSwapsPerLook)) {
    for (const Tensor& tensor : tensors_) {
      if (tensor.layer != swap.layer) continue;
      for (size_t page = 0; page < tensor.pages_per_expert; ++page) {
        TRY(tensor.buffer->pages()->exchange(static_cast<size_t>(swap.leaves) * tensor.pages_per_expert + page,
                                             static_cast<size_t>(swap.enters) * tensor.pages_per_expert + page,
                                             spare_->device_data(), stream));
      }
    }
  }
  return {};
}

}  // namespace ds4::cuda
