#pragma once

// Brings the weights of a file to a device: threads read parts of them into a ring of staging buffers while the
// caller's thread sends what is there on its way, so that disk, host memory and bus work at the same time. Knows
// nothing about devices: those are an UploadDevice, which tests stand in for. Every part goes out in the order of the
// file, whatever the threads do; the first error ends the load.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "backends/backend.h"
#include "gguf/weight_source.h"

namespace ds4 {

// Bytes [first, first + size_bytes) of weights[weight].
struct WeightPart {
  size_t weight = 0;
  uint64_t first = 0;
  uint64_t size_bytes = 0;
  bool is_last = false;  // of the weight
  bool operator==(const WeightPart&) const = default;
};

// All bytes of all weights in parts of at most most_bytes, in the order of their places in the file.
std::vector<WeightPart> plan_parts(std::span<const WeightToPlace> weights, uint64_t most_bytes);

// Called by the loading thread only, except for what buffer() returns, which readers fill.
class UploadDevice {
 public:
  virtual ~UploadDevice() = default;
  virtual size_t n_buffers() const = 0;  // at least 2
  virtual std::span<std::byte> buffer(size_t index) = 0;
  // Parts of this weight follow; memory for it.
  virtual Result<void> begin(size_t weight) = 0;
  // Sends `bytes`, which lie in that buffer, on their way.
  virtual Result<void> upload(size_t buffer, std::span<const std::byte> bytes, const WeightPart& part) = 0;
  // What was sent from that buffer has arrived: it may be filled anew.
  virtual Result<void> wait(size_t buffer) = 0;
  // Every part of the weight is on its way.
  virtual Result<void> end(size_t weight) = 0;
};

struct LoadSettings {
  uint64_t part_bytes = uint64_t{16} << 20;  // buffers have BulkReader::buffer_bytes() of it
  int n_threads = 4;
  WeightProgress progress;  // may be empty
};

Result<void> load_weights(std::span<const WeightToPlace> weights, const WeightSource& source, UploadDevice& device,
                          const LoadSettings& settings);

}  // namespace ds4
