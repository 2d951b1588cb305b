#include "gguf/weight_source.h"

#include <algorithm>
#include <cstring>

#include "base/bulk_reader.h"
#include "base/rng.h"

namespace ds4 {

namespace {

class ReadSource final : public WeightSource {
 public:
  explicit ReadSource(std::unique_ptr<BulkReader> reader) : reader_(std::move(reader)) {}

  Result<std::span<const std::byte>> fetch(const TensorInfo& tensor, uint64_t first, uint64_t part_bytes,
                                           std::span<std::byte> buffer) const override {
    auto bytes = reader_->read(tensor.offset_bytes + first, part_bytes, buffer);
    if (!bytes.ok()) return with_context(bytes.take_error(), "tensor " + tensor.name);
    return bytes;
  }

 private:
  std::unique_ptr<BulkReader> reader_;
};

class MemorySource final : public WeightSource {
 public:
  explicit MemorySource(const GgufFile& file) : file_(file) {}

  Result<std::span<const std::byte>> fetch(const TensorInfo& tensor, uint64_t first, uint64_t part_bytes,
                                           std::span<std::byte> buffer) const override {
    const std::span<std::byte> out = buffer.first(part_bytes);
    const auto runs = file_.generator() == nullptr ? std::nullopt : file_.generator()->runs(tensor);
    if (runs) {
      runs->fill(first, out);
    } else {
      std::memcpy(out.data(), file_.bytes().data() + tensor.offset_bytes + first, out.size());
    }
    return std::span<const std::byte>(out);
  }

 private:
  const GgufFile& file_;
};

}  // namespace

uint64_t PooledRuns::start(uint64_t run) const {
  return splitmix64_mix(seed + run * kGoldenGamma) % n_starts() * block_bytes;
}

void PooledRuns::fill(uint64_t first, std::span<std::byte> out) const {
  uint64_t run = first / run_bytes;
  uint64_t skipped = first % run_bytes;
  while (!out.empty()) {
    const uint64_t n = std::min<uint64_t>(run_bytes - skipped, out.size());
    std::memcpy(out.data(), pool.data() + start(run) + skipped, n);
    out = out.subspan(n);
    skipped = 0;
    ++run;
  }
}

Result<std::unique_ptr<WeightSource>> open_weight_source(const GgufFile& file) {
  if (!file.is_mapped()) return std::unique_ptr<WeightSource>(std::make_unique<MemorySource>(file));
  auto reader = TRY(BulkReader::open(file.path(), !is_mostly_cached(file.bytes())));
  return std::unique_ptr<WeightSource>(std::make_unique<ReadSource>(std::move(reader)));
}

}  // namespace ds4
