#include "backends/cuda/step_graphs.h"

#include <algorithm>

namespace ds4::cuda {
namespace {

constexpr size_t kMaxEntries = 32;

void destroy(cudaGraphExec_t graph) {
  if (graph != nullptr) (void)cudaGraphExecDestroy(graph);
}

}  // namespace

void StepGraphs::clear() {
  for (const Entry& entry : entries_) destroy(entry.graph);
  entries_.clear();
}

void StepGraphs::forget(const void* owner) {
  std::erase_if(entries_, [&](const Entry& entry) {
    if (entry.key.step.owner != owner) return false;
    destroy(entry.graph);
    return true;
  });
}

StepGraphs::Entry& StepGraphs::entry(const Key& key) {
  const auto found = std::ranges::find(entries_, key, &Entry::key);
  if (found != entries_.end()) return *found;
  if (entries_.size() == kMaxEntries) {
    const auto oldest = std::ranges::min_element(entries_, {}, &Entry::last_use);
    destroy(oldest->graph);
    entries_.erase(oldest);
  }
  entries_.push_back({.key = key});
  return entries_.back();
}

void StepGraphs::run(const Key& key, const std::function<void()>& enqueue) {
  const bool is_new = std::ranges::find(entries_, key, &Entry::key) == entries_.end();
  Entry& own = entry(key);
  own.last_use = ++n_runs_;
  if (is_new) return enqueue();
  if (own.graph == nullptr || own.n_moves != status_.n_moves()) record(own, enqueue);
  if (own.graph == nullptr) return enqueue();
  n_nodes_ = own.n_nodes;
  status_.note(cudaGraphLaunch(own.graph, stream_), "replaying a step");
}

// Leaves the entry without a graph when the step could not be recorded; it then runs as called.
void StepGraphs::record(Entry& entry, const std::function<void()>& enqueue) {
  destroy(entry.graph);
  entry.graph = nullptr;
  if (cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed) != cudaSuccess) {
    (void)cudaGetLastError();
    return;
  }
  const uint64_t n_moves = status_.n_moves();
  enqueue();
  cudaGraph_t graph = nullptr;
  const cudaError_t captured = cudaStreamEndCapture(stream_, &graph);
  if (captured == cudaSuccess && n_moves == status_.n_moves() &&
      cudaGraphInstantiate(&entry.graph, graph, 0) == cudaSuccess) {
    (void)cudaGraphGetNodes(graph, nullptr, &entry.n_nodes);
    entry.n_moves = n_moves;
  } else {
    entry.graph = nullptr;
  }
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
  (void)cudaGetLastError();
}

}  // namespace ds4::cuda
