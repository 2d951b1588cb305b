#include "backends/cuda/weight_store.h"

#include <algorithm>
#include <thread>

#include "backends/cuda/device_weight.h"
#include "backends/cuda/kernels/kernels.h"
#include "backends/cuda/kernels/weight_runs.h"
#include "backends/weight_loader.h"
#include "base/bulk_reader.h"

namespace ds4::cuda {
namespace {

constexpr uint64_t kPartBytes = uint64_t{16} << 20;
// Reads of 16 MiB by eight threads keep a fast disk and the bus busy; a ring of twice as many lets either wait a
// moment.
constexpr int kMostThreads = 8;
constexpr size_t kBuffersPerThread = 2;

bool has_planes(const TensorView& host) {
  return host.shape.rank() > 0 && is_matrix_type(host.type) && has_planes(weight_type(host.type), host.shape.back());
}

int reader_threads() { return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 2, kMostThreads); }

class Uploads final : public UploadDevice {
 public:
  static Result<std::unique_ptr<Uploads>> create(WeightStore& store, std::span<const WeightToPlace> weights,
                                                 size_t n_buffers, cudaStream_t stream) {
    std::unique_ptr<Uploads> uploads(new Uploads(store, weights, stream));
    for (size_t i = 0; i < n_buffers; ++i) {
      uploads->buffers_.push_back(TRY(PinnedBuffer::allocate(BulkReader::buffer_bytes(kPartBytes))));
      cudaEvent_t event = nullptr;
      if (const cudaError_t error = cudaEventCreateWithFlags(&event, cudaEventDisableTiming); error != cudaSuccess)
        return device_error(error, "an event");
      uploads->arrived_.push_back(event);
    }
    return uploads;
  }
  ~Uploads() override {
    (void)cudaStreamSynchronize(stream_);
    for (const cudaEvent_t event : arrived_) (void)cudaEventDestroy(event);
  }
  Uploads(const Uploads&) = delete;
  Uploads& operator=(const Uploads&) = delete;

  size_t n_buffers() const override { return buffers_.size(); }
  std::span<std::byte> buffer(size_t index) override {
    return {buffers_[index]->host_data(), buffers_[index]->size_bytes()};
  }
  Result<void> begin(size_t weight) override {
    raw_ = TRY(store_.begin_raw(weights_[weight].host));
    return {};
  }
  Result<void> upload(size_t buffer, std::span<const std::byte> bytes, const WeightPart& part) override {
    cudaError_t error = cudaMemcpyAsync(raw_ + part.first, bytes.data(), bytes.size(), cudaMemcpyHostToDevice, stream_);
    if (error == cudaSuccess) error = cudaEventRecord(arrived_[buffer], stream_);
    if (error != cudaSuccess) return device_error(error, "sending " + weights_[part.weight].tensor->name);
    return {};
  }
  Result<void> wait(size_t buffer) override {
    const cudaError_t error = cudaEventSynchronize(arrived_[buffer]);
    if (error != cudaSuccess) return device_error(error, "sending weights to the device");
    return {};
  }
  Result<void> end(size_t weight) override {
    views_[weight] = TRY(store_.keep_raw(weights_[weight].host, weights_[weight].tensor->name));
    return {};
  }

  const std::vector<TensorView>& views() const { return views_; }

 private:
  Uploads(WeightStore& store, std::span<const WeightToPlace> weights, cudaStream_t stream)
      : store_(store), weights_(weights), stream_(stream), views_(weights.size()) {}

  WeightStore& store_;
  std::span<const WeightToPlace> weights_;
  cudaStream_t stream_;
  std::vector<std::unique_ptr<PinnedBuffer>> buffers_;
  std::vector<cudaEvent_t> arrived_;
  std::byte* raw_ = nullptr;
  std::vector<TensorView> views_;
};

}  // namespace

// Matrices in planes pass through one area, in the order of the stream; the rest arrives where it stays.
Result<std::byte*> WeightStore::begin_raw(const TensorView& host) {
  if (has_planes(host)) {
    if (area_ == nullptr || area_->size_bytes() < host.size_bytes()) {
      if (const cudaError_t error = cudaStreamSynchronize(stream_); error != cudaSuccess)
        return device_error(error, "placing weights");
      area_.reset();
      area_ = TRY(DeviceBuffer::allocate_unset(host.size_bytes()));
    }
    return area_->device_data();
  }
  arriving_ = TRY(DeviceBuffer::allocate_unset(host.size_bytes()));
  return arriving_->device_data();
}

Result<std::unique_ptr<DeviceBuffer>> WeightStore::planes_memory(const TensorView& host, std::string_view name) {
  const std::optional<int32_t> layer = expert_layer(name);
  if (paging_ != nullptr && layer) return paging_->allocate(*layer, host);
  const int64_t n_in = host.shape.back();
  const WeightPlanes planes = weight_planes(weight_type(host.type), host.elements() / n_in, n_in);
  return DeviceBuffer::allocate_unset(static_cast<uint64_t>(planes.size_bytes));
}

Result<TensorView> WeightStore::keep_raw(const TensorView& host, std::string_view name) {
  if (has_planes(host)) {
    const int64_t n_in = host.shape.back();
    const int64_t n_rows = host.elements() / n_in;
    const WeightType type = weight_type(host.type);
    arriving_ = TRY(planes_memory(host, name));
    const cudaError_t error = repack({.type = type,
                                      .file = reinterpret_cast<uint8_t*>(area_->device_data()),
                                      .planes = reinterpret_cast<uint8_t*>(arriving_->device_data()),
                                      .n_all_rows = n_rows,
                                      .n_in = n_in,
                                      .first_row = 0,
                                      .n_rows = n_rows},
                                     stream_);
    if (error != cudaSuccess) return device_error(error, "laying a weight out");
  }
  weights_.push_back(std::move(arriving_));
  return TensorView{weights_.back().get(), 0, host.type, host.shape};
}

Result<const uint8_t*> WeightStore::pool_on_device(std::span<const std::byte> pool) {
  std::unique_ptr<DeviceBuffer>& buffer = pools_[pool.data()];
  if (buffer == nullptr) {
    constexpr uint64_t kSlackBytes = 8;  // the kernel reads whole words
    buffer = TRY(DeviceBuffer::allocate(pool.size() + kSlackBytes));
    const cudaError_t error =
        cudaMemcpyAsync(buffer->device_data(), pool.data(), pool.size(), cudaMemcpyHostToDevice, stream_);
    if (error != cudaSuccess) return device_error(error, "sending a pool of weights to the device");
  }
  return reinterpret_cast<const uint8_t*>(buffer->device_data());
}

Result<TensorView> WeightStore::make(const PooledRuns& runs, const WeightToPlace& weight) {
  const TensorView& host = weight.host;
  CHECK(runs.run_bytes % 4 == 0, "runs of {} bytes", runs.run_bytes);
  const uint8_t* pool = TRY(pool_on_device(runs.pool));
  std::byte* out = TRY(begin_raw(host));
  const cudaError_t error = make_weight_runs({.pool = pool,
                                              .seed = runs.seed,
                                              .n_starts = runs.n_starts(),
                                              .block_bytes = static_cast<uint32_t>(runs.block_bytes),
                                              .run_bytes = static_cast<uint32_t>(runs.run_bytes),
                                              .out = reinterpret_cast<uint8_t*>(out),
                                              .out_bytes = host.size_bytes()},
                                             stream_);
  if (error != cudaSuccess) return device_error(error, "making a weight");
  return keep_raw(host, weight.tensor->name);
}

Result<std::vector<TensorView>> WeightStore::place(const GgufFile& file, std::span<const WeightToPlace> weights,
                                                   const WeightProgress& progress) {
  if (expert_card_bytes_) {
    const ExpertPlacement experts = TRY(place_experts(weights, *expert_card_bytes_));
    if (experts.n_on_card < experts.n_experts) paging_ = TRY(ExpertPaging::create(experts));
  }
  std::vector<TensorView> views(weights.size());
  std::vector<WeightToPlace> to_load;
  std::vector<size_t> places;
  for (size_t i = 0; i < weights.size(); ++i) {
    const auto runs = file.generator() == nullptr ? std::nullopt : file.generator()->runs(*weights[i].tensor);
    if (runs) {
      views[i] = TRY(make(*runs, weights[i]));
    } else {
      to_load.push_back(weights[i]);
      places.push_back(i);
    }
  }
  const std::unique_ptr<WeightSource> source = TRY(open_weight_source(file));
  const int n_threads = reader_threads();
  const auto n_buffers = static_cast<size_t>(n_threads) * kBuffersPerThread;
  const std::unique_ptr<Uploads> uploads = TRY(Uploads::create(*this, to_load, n_buffers, stream_));
  TRY(load_weights(to_load, *source, *uploads,
                   {.part_bytes = kPartBytes, .n_threads = n_threads, .progress = progress}));
  for (size_t i = 0; i < places.size(); ++i) views[places[i]] = uploads->views()[i];
  if (const cudaError_t error = cudaStreamSynchronize(stream_); error != cudaSuccess)
    return device_error(error, "placing weights");
  pools_.clear();
  area_.reset();
  return views;
}

}  // namespace ds4::cuda
