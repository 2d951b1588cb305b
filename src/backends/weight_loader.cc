#include "backends/weight_loader.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace ds4 {

namespace {

// Part p is read into buffer p % n. Readers claim parts in order and wait until the buffer's part before was sent.
class Ring {
 public:
  Ring(std::span<const WeightPart> parts, std::span<const WeightToPlace> weights, const WeightSource& source,
       UploadDevice& device)
      : parts_(parts), weights_(weights), source_(source), device_(device), read_(device.n_buffers()) {}

  // A reader's whole life.
  void run() {
    while (const std::optional<size_t> part = claim()) {
      const WeightPart& piece = parts_[*part];
      auto bytes = source_.fetch(*weights_[piece.weight].tensor, piece.first, piece.size_bytes,
                                 device_.buffer(*part % read_.size()));
      const std::lock_guard lock(mutex_);
      read_[*part % read_.size()] = std::move(bytes);
      changed_.notify_all();
    }
  }

  Result<std::span<const std::byte>> take(size_t part) {
    std::unique_lock lock(mutex_);
    auto& slot = read_[part % read_.size()];
    changed_.wait(lock, [&] { return slot.has_value(); });
    Result<std::span<const std::byte>> bytes = std::move(*slot);
    slot.reset();
    return bytes;
  }

  // The buffer of that part, and of all before, may be filled again.
  void release(size_t part) {
    const std::lock_guard lock(mutex_);
    n_released_ = part + 1;
    changed_.notify_all();
  }

  void stop() {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
  }

 private:
  std::optional<size_t> claim() {
    std::unique_lock lock(mutex_);
    if (stopped_ || n_claimed_ == parts_.size()) return std::nullopt;
    const size_t part = n_claimed_++;
    changed_.wait(lock, [&] { return stopped_ || part < n_released_ + read_.size(); });
    if (stopped_) return std::nullopt;
    return part;
  }

  std::span<const WeightPart> parts_;
  std::span<const WeightToPlace> weights_;
  const WeightSource& source_;
  UploadDevice& device_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::optional<Result<std::span<const std::byte>>>> read_;  // by buffer
  size_t n_claimed_ = 0;
  size_t n_released_ = 0;
  bool stopped_ = false;
};

Result<void> send_parts(std::span<const WeightPart> parts, Ring& ring, UploadDevice& device,
                        const WeightProgress& progress) {
  uint64_t total = 0;
  for (const WeightPart& part : parts) total += part.size_bytes;
  uint64_t done = 0;
  // Half of the ring is on its way while the other half is being read.
  const size_t n_in_flight = device.n_buffers() / 2;
  for (size_t i = 0; i < parts.size(); ++i) {
    const WeightPart& part = parts[i];
    if (part.first == 0) TRY(device.begin(part.weight));
    const std::span<const std::byte> bytes = TRY(ring.take(i));
    TRY(device.upload(i % device.n_buffers(), bytes, part));
    if (part.is_last) TRY(device.end(part.weight));
    if (i + 1 >= n_in_flight) {
      const size_t arrived = i + 1 - n_in_flight;
      TRY(device.wait(arrived % device.n_buffers()));
      ring.release(arrived);
    }
    done += part.size_bytes;
    if (progress) progress(done, total);
  }
  for (size_t i = parts.size() - std::min(parts.size(), n_in_flight); i < parts.size(); ++i)
    TRY(device.wait(i % device.n_buffers()));
  return {};
}

}  // namespace

std::vector<WeightPart> plan_parts(std::span<const WeightToPlace> weights, uint64_t most_bytes) {
  std::vector<size_t> order(weights.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::sort(order, {}, [&](size_t i) { return std::pair(weights[i].tensor->offset_bytes, i); });
  std::vector<WeightPart> parts;
  for (const size_t weight : order) {
    const uint64_t size = weights[weight].host.size_bytes();
    for (uint64_t first = 0; first < size; first += most_bytes) {
      const uint64_t n = std::min(most_bytes, size - first);
      parts.push_back({.weight = weight, .first = first, .size_bytes = n, .is_last = first + n == size});
    }
  }
  return parts;
}

Result<void> load_weights(std::span<const WeightToPlace> weights, const WeightSource& source, UploadDevice& device,
                          const LoadSettings& settings) {
  CHECK(device.n_buffers() >= 2 && settings.n_threads >= 1, "{} buffers, {} threads", device.n_buffers(),
        settings.n_threads);
  const std::vector<WeightPart> parts = plan_parts(weights, settings.part_bytes);
  Ring ring(parts, weights, source, device);
  std::vector<std::jthread> readers;
  for (int i = 0; i < settings.n_threads; ++i) readers.emplace_back([&ring] { ring.run(); });
  Result<void> result = send_parts(parts, ring, device, settings.progress);
  ring.stop();
  return result;
}

}  // namespace ds4
