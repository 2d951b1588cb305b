#include "backends/backend.h"

#include <algorithm>

#include "gguf/weight_source.h"

namespace ds4 {

namespace {

constexpr uint64_t kPieceBytes = uint64_t{16} << 20;

Result<void> make_weight(const PooledRuns& runs, const TensorView& destination, Backend& backend) {
  std::vector<std::byte> piece(std::min(kPieceBytes, destination.size_bytes()));
  for (uint64_t first = 0; first < destination.size_bytes(); first += kPieceBytes) {
    const uint64_t n = std::min(kPieceBytes, destination.size_bytes() - first);
    const auto bytes = std::span(piece).first(n);
    runs.fill(first, bytes);
    const TensorView part{destination.buffer, destination.offset_bytes + first, DType::kU8, {static_cast<int64_t>(n)}};
    backend.upload(bytes, part);
    TRY(backend.finish());
  }
  return {};
}

}  // namespace

Result<PlacedWeights> Backend::place_weights(const GgufFile& file, std::span<const WeightToPlace> weights,
                                             const WeightProgress& progress) {
  uint64_t total = 0;
  for (const WeightToPlace& weight : weights) total += weight.host.size_bytes();
  PlacedWeights placed;
  uint64_t done = 0;
  for (const WeightToPlace& weight : weights) {
    const auto runs = file.generator() == nullptr ? std::nullopt : file.generator()->runs(*weight.tensor);
    if (runs) {
      placed.buffers.push_back(TRY(allocate(weight.host.size_bytes())));
      placed.views.push_back({placed.buffers.back().get(), 0, weight.host.type, weight.host.shape});
      TRY(make_weight(*runs, placed.views.back(), *this));
    } else {
      placed.views.push_back(TRY(place_weight(weight.host)));
    }
    done += weight.host.size_bytes();
    if (progress) progress(done, total);
  }
  return placed;
}

}  // namespace ds4
