#include "engine/model_identity.h"

#include <algorithm>
#include <array>

namespace ds4 {
namespace {

constexpr uint64_t kSamples = 64;
constexpr uint64_t kSampleBytes = 4096;

}  // namespace

Hash128 model_identity(const GgufFile& file, const KvLayout& layout, NumericProfile profile) {
  const std::span<const std::byte> bytes = file.bytes();
  uint64_t data_offset = bytes.size();
  for (const TensorInfo& tensor : file.tensors()) {
    const TensorView view = file.view(tensor);
    data_offset = std::min(data_offset, static_cast<uint64_t>(view.data<std::byte>() - bytes.data()));
  }
  const std::array<uint64_t, 5> numbers{kArithmeticVersion, static_cast<uint64_t>(profile), layout.page_bytes,
                                        layout.frontier_bytes, bytes.size()};
  Hash128 identity = hash_bytes(std::as_bytes(std::span(numbers)));
  identity = hash_bytes(bytes.first(data_offset), identity);
  const std::span<const std::byte> data = bytes.subspan(data_offset);
  for (uint64_t i = 0; i < kSamples && !data.empty(); ++i) {
    const uint64_t n = std::min<uint64_t>(kSampleBytes, data.size());
    identity = hash_bytes(data.subspan((data.size() - n) * i / (kSamples - 1), n), identity);
  }
  return identity;
}

}  // namespace ds4
