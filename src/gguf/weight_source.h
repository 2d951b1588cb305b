#pragma once

// Where a loader gets the bytes of a file's tensors from, part by part and by many threads: a file by large reads,
// memory, or a rule that makes them. Weights of benchmarks are made of runs that are drawn from a small pool: whoever
// has the pool can make any part of them, on a device as well (PooledRuns). Immutable, any thread.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/error.h"
#include "gguf/reader.h"

namespace ds4 {

// A tensor's bytes by rule: run r, of run_bytes, is a copy of the pool from start(r) on; the last run may be cut.
struct PooledRuns {
  std::span<const std::byte> pool;
  uint64_t seed = 0;
  uint64_t run_bytes = 0;
  uint64_t block_bytes = 0;  // starts are multiples of it

  uint64_t n_starts() const { return (pool.size() - run_bytes) / block_bytes + 1; }
  uint64_t start(uint64_t run) const;
  // Bytes [first, first + out.size()) of the tensor.
  void fill(uint64_t first, std::span<std::byte> out) const;
};

// A file whose large tensors are nowhere in memory.
class WeightGenerator {
 public:
  virtual ~WeightGenerator() = default;
  // Nothing: the tensor's bytes are in the file's memory.
  virtual std::optional<PooledRuns> runs(const TensorInfo& tensor) const = 0;
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // Bytes [first, first + part_bytes) of the tensor, somewhere in `buffer`, which is aligned and sized as for
  // BulkReader. Errors name the file, the tensor and the place.
  virtual Result<std::span<const std::byte>> fetch(const TensorInfo& tensor, uint64_t first, uint64_t part_bytes,
                                                   std::span<std::byte> buffer) const = 0;
};

// For files that were opened: reads, direct ones unless most of the file is in the page cache. For others: their
// memory and their generator. The file must outlive the source.
Result<std::unique_ptr<WeightSource>> open_weight_source(const GgufFile& file);

}  // namespace ds4
