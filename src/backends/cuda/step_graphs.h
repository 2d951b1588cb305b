#pragma once

// Steps of the schedule as CUDA graphs. The first step with a key runs as it is called, which sizes all scratch; the
// second is recorded; later ones replay the record in one launch. A record holds device addresses: it is dropped when
// scratch moved or the owner of the views ends. Used by one thread.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "backends/backend.h"
#include "backends/cuda/device_memory.h"

namespace ds4::cuda {

class StepGraphs {
 public:
  struct Key {
    StepKey step;
    int64_t position_bound = 0;  // kernels that depend on the longest sequence are launched for this many positions
    bool operator==(const Key&) const = default;
  };

  StepGraphs(cudaStream_t stream, DeviceStatus& status) : stream_(stream), status_(status) {}
  ~StepGraphs() { clear(); }
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;

  void run(const Key& key, const std::function<void()>& enqueue);
  void forget(const void* owner);
  void clear();

  // Kernels and copies of the last step that was replayed; 0 before the first.
  size_t n_nodes() const { return n_nodes_; }

 private:
  struct Entry {
    Key key;
    cudaGraphExec_t graph = nullptr;  // null: seen once
    uint64_t n_moves = 0;             // of scratch, when it was recorded
    size_t n_nodes = 0;
    uint64_t last_use = 0;
  };
  Entry& entry(const Key& key);
  void record(Entry& entry, const std::function<void()>& enqueue);

  cudaStream_t stream_;
  DeviceStatus& status_;
  std::vector<Entry> entries_;
  uint64_t n_runs_ = 0;
  size_t n_nodes_ = 0;
};

}  // namespace ds4::cuda
